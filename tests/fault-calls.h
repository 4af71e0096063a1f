/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Functions of the C library with a question before each: does this call
 * fail?  Whoever links fault-calls.c answers it.
 */

#ifndef ZMEM_FAULT_CALLS_H
#define ZMEM_FAULT_CALLS_H

#include <dlfcn.h>
#include <stdbool.h>

#include "fault-slots.h"

/* ThreadSanitizer stands before the same functions, and must see the calls. */
#if defined(__SANITIZE_THREAD__)
#define FAULT_CALLS 0
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define FAULT_CALLS 0
#endif
#endif
#ifndef FAULT_CALLS
#define FAULT_CALLS 1
#endif

#define EXPORTED __attribute__ ((visibility ("default")))

/* True, with errno: the call of that function, from `caller`, fails.  Asked by
 * any thread, at any time, so it allocates nothing.
 */
extern bool fault_fails (enum fault_family family, const char *name,
                         const void *caller, int error);

/* Allocations that are not freed yet. */
extern int64_t fault_nr_allocations (void);

/* The next definition of the function that this one stands before. */
#define NEXT(function)                                                         \
  ({                                                                           \
    static __typeof__ (&(function)) next_;                                     \
    if (next_ == NULL)                                                         \
      *(void **) &next_ = dlsym (RTLD_NEXT, #function);                        \
    next_;                                                                     \
  })

#endif /* ZMEM_FAULT_CALLS_H */
