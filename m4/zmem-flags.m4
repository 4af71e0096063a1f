# Compiler flags of zmem.
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# What is asked of the compiler is asked with -Werror: clang only warns of a
# flag that it does not know.

# ZMEM_TRY_FLAG(FLAG, VARIABLE): append FLAG to VARIABLE if the compiler and
# the linker take it; zmem_taken says whether.
AC_DEFUN([ZMEM_TRY_FLAG],
  [AS_VAR_PUSHDEF([cache], [zmem_cv_flag_$1])dnl
   AC_CACHE_CHECK([whether $CC takes $1], [cache],
     [zmem_save_cflags=$CFLAGS
      CFLAGS="$CFLAGS -Werror $1"
      AC_LINK_IFELSE([AC_LANG_PROGRAM([], [])],
        [AS_VAR_SET([cache], [yes])], [AS_VAR_SET([cache], [no])])
      CFLAGS=$zmem_save_cflags])
   AS_VAR_COPY([zmem_taken], [cache])
   AS_VAR_IF([cache], [yes], [$2="$$2 $1"])
   AS_VAR_POPDEF([cache])])

# ZMEM_TRY_FLAGS(FLAGS, VARIABLE): the same for each of them, in one go where
# all are taken.  (A check for each was a third of ./configure's time.)
AC_DEFUN([ZMEM_TRY_FLAGS],
  [ZMEM_TRY_FLAG([$1], [$2])
   AS_IF([test $zmem_taken = no],
     [m4_foreach_w([zmem_flag], [$1], [ZMEM_TRY_FLAG(zmem_flag, [$2])
        ])])])

# ZMEM_ADD_SANITIZER(NAMES): into CFLAGS and LDFLAGS, so that every object
# and every test program has it.  A finding ends the program: a test that
# goes on after one would pass.
AC_DEFUN([ZMEM_ADD_SANITIZER],
  [zmem_sanitizer="-fsanitize=$1 -fno-sanitize-recover=all -fno-omit-frame-pointer"
   CFLAGS="$CFLAGS $zmem_sanitizer"
   LDFLAGS="$LDFLAGS -fsanitize=$1"
   AC_MSG_CHECKING([whether $CC has the sanitizer $1])
   AC_LINK_IFELSE([AC_LANG_PROGRAM([], [])],
     [AC_MSG_RESULT([yes])],
     [AC_MSG_RESULT([no])
      AC_MSG_ERROR([$CC cannot link with -fsanitize=$1: its runtime library may be missing])])])

# ZMEM_FUZZING(yes|no): every object counts its edges for libFuzzer, and
# FUZZER_LDFLAGS makes a program one of its.  Sets enable_sanitizer where it
# is "no", and FUZZ_PRELOAD: the runtime that lets a server built without a
# sanitizer load a plugin with one.  "make fuzz" needs it; elsewhere it is
# empty.
AC_DEFUN([ZMEM_FUZZING],
  [FUZZER_LDFLAGS=
   FUZZ_PRELOAD=
   AS_IF([test "$1" = yes],
     [AS_IF([test "$enable_sanitizer" = no],
        [enable_sanitizer=address,undefined])
      FUZZER_LDFLAGS=-fsanitize=fuzzer
      AC_MSG_CHECKING([whether $CC has libFuzzer])
      zmem_save_ldflags=$LDFLAGS
      LDFLAGS="$LDFLAGS $FUZZER_LDFLAGS"
      AC_LINK_IFELSE(
        [AC_LANG_SOURCE([[
           int LLVMFuzzerTestOneInput (const unsigned char *data,
                                       unsigned long bytes);
           int
           LLVMFuzzerTestOneInput (const unsigned char *data,
                                   unsigned long bytes)
           { return 0; }
         ]])],
        [AC_MSG_RESULT([yes])],
        [AC_MSG_RESULT([no])
         AC_MSG_ERROR([--enable-fuzzing needs clang and its runtime library, where libFuzzer is (Debian: clang and libclang-rt-dev): configure with CC=clang])])
      LDFLAGS=$zmem_save_ldflags
      CFLAGS="$CFLAGS -fsanitize=fuzzer-no-link"
      zmem_runtime=`$CC -print-file-name=libclang_rt.asan-$host_cpu.so`
      AS_CASE([$enable_sanitizer,$zmem_runtime],
        [address*,/*], [FUZZ_PRELOAD=$zmem_runtime])])
   AC_SUBST([FUZZER_LDFLAGS])
   AC_SUBST([FUZZ_PRELOAD])])

# ZMEM_COVERAGE: every object counts, exactly where threads do, too, and
# without the optimisation that makes one branch of several.
AC_DEFUN([ZMEM_COVERAGE],
  [CFLAGS="$CFLAGS -O0 --coverage -fprofile-update=atomic"
   LDFLAGS="$LDFLAGS --coverage"
   AC_MSG_CHECKING([whether $CC counts what is executed])
   AC_LINK_IFELSE([AC_LANG_PROGRAM([], [])],
     [AC_MSG_RESULT([yes])],
     [AC_MSG_RESULT([no])
      AC_MSG_ERROR([--enable-coverage needs gcc, or a compiler that takes --coverage and -fprofile-update=atomic])])])

# ZMEM_HARDENING: sets HARDENING_CPPFLAGS, HARDENING_CFLAGS and
# HARDENING_LDFLAGS.  _FORTIFY_SOURCE needs optimisation, and hides calls
# from a sanitizer.
AC_DEFUN([ZMEM_HARDENING],
  [HARDENING_CPPFLAGS=
   HARDENING_CFLAGS=
   HARDENING_LDFLAGS=
   AS_IF([test "$enable_sanitizer" = no],
     [AC_MSG_CHECKING([whether $CC optimises with these CFLAGS])
      AC_COMPILE_IFELSE(
        [AC_LANG_PROGRAM([[
           #ifndef __OPTIMIZE__
           #error not optimising
           #endif
         ]], [])],
        [AC_MSG_RESULT([yes])
         HARDENING_CPPFLAGS="-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2"],
        [AC_MSG_RESULT([no])])
      ZMEM_TRY_FLAG([-fstack-protector-strong], [HARDENING_CFLAGS])])
   ZMEM_TRY_FLAG([-Wl,-z,relro], [HARDENING_LDFLAGS])
   ZMEM_TRY_FLAG([-Wl,-z,now], [HARDENING_LDFLAGS])
   AC_SUBST([HARDENING_CPPFLAGS])
   AC_SUBST([HARDENING_CFLAGS])
   AC_SUBST([HARDENING_LDFLAGS])])

# ZMEM_WARNINGS(yes|no): sets WARNINGS_CFLAGS.
#
# Left out, with the reason: -Wconversion (hundreds of harmless narrowings in
# bit packing, which static_assert guards better); -Wcast-qual (free of a
# const pointer); -Wcast-align (clang minds every char * that becomes a word,
# gcc none); -Wundef (system headers); -Wnull-dereference with a sanitizer
# (false findings in instrumented code).
AC_DEFUN([ZMEM_WARNINGS],
  [WARNINGS_CFLAGS=
   AS_IF([test "$1" = yes],
     [ZMEM_TRY_FLAGS(m4_normalize([
         -Wall
         -Wextra
         -Walloca
         -Wdate-time
         -Wdouble-promotion
         -Wformat=2
         -Wimplicit-fallthrough
         -Winit-self
         -Wmissing-declarations
         -Wmissing-prototypes
         -Wnested-externs
         -Wold-style-definition
         -Wpointer-arith
         -Wredundant-decls
         -Wshadow
         -Wstrict-prototypes
         -Wvla
         -Wwrite-strings
         -Wno-missing-field-initializers
         -Wno-unused-parameter]), [WARNINGS_CFLAGS])
      ZMEM_TRY_FLAG([-Wmissing-variable-declarations], [WARNINGS_CFLAGS])
      dnl gcc's own.
      AS_CASE([`$CC --version`],
        [*clang*], [],
        [ZMEM_TRY_FLAGS(m4_normalize([
           -Walloc-zero
           -Warray-bounds=2
           -Wduplicated-cond
           -Wformat-overflow=2
           -Wformat-truncation=2
           -Wlogical-op
           -Wtrampolines]), [WARNINGS_CFLAGS])])
      AS_IF([test "$enable_sanitizer" = no],
        [ZMEM_TRY_FLAG([-Wnull-dereference], [WARNINGS_CFLAGS])])
      WARNINGS_CFLAGS="$WARNINGS_CFLAGS -Werror"])
   AC_SUBST([WARNINGS_CFLAGS])])
