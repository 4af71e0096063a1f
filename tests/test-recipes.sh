#!/usr/bin/env bash
# zmem
# Copyright The zmem authors
# SPDX-License-Identifier: BSD-3-Clause
#
# Runs docs/RECIPES and README's Recipes: every line that is typed there, in
# order, in one shell for each of the two, and compares what is seen.  How the
# lines are marked is told at the head of docs/RECIPES.  A line that is in no
# recipe, or needs what is not known here, is a failure; what a machine cannot
# run is listed with the reason.
#
# What is not as it is typed: folders (/run/zmem, /etc/zmem and that of
# Prometheus are under $tmp), HOST, ports, and three commands that the shell
# finds first (in $tmp/bin): nbdkit puts the plugin's path in place of the word
# zmem, listens on a free port of the loopback interface, and notes its number;
# zmemctl does not see other servers of this machine; qemu-system-x86_64 has no
# window, and is told to quit.
#
# Functions are given to check:
# shellcheck disable=SC2317

. "${srcdir:-.}/tests/functions.sh"
requires nbdkit nbdinfo nbdcopy qemu-img qemu-system-x86_64 psktool certtool \
         jq cmp setsid

umask 077
mkdir -p "$tmp/bin" "$tmp/pids" "$tmp/work"
export XDG_RUNTIME_DIR=$tmp/run

#----------------------------------------------------------------------
# The commands that are not quite themselves.

# "zmem" is a word by itself only as the plugin's name.
cat >"$tmp/bin/nbdkit" <<END
#!/usr/bin/env bash
plugin='$ZMEM_PLUGIN' tmp='$tmp' real='$(type -P nbdkit)'
END
cat >>"$tmp/bin/nbdkit" <<'END'
args=() tcp=yes pidfile=
while [ $# -gt 0 ]; do
  case $1 in
    zmem) args+=("$plugin") ;;
    -U|-P)
      if [ "$1" = -U ]; then tcp=no; else pidfile=$2; fi
      args+=("$1" "$2")
      shift
      ;;
    *) args+=("$1") ;;
  esac
  shift
done
if [ -z "$pidfile" ]; then
  pidfile=$(mktemp -u "$tmp/pids/XXXXXX")
  args=(-P "$pidfile" "${args[@]}")
fi
echo "$pidfile" >>"$tmp/pidfiles"
[ $tcp = yes ] || exec "$real" "${args[@]}"
for _ in 1 2 3 4 5 6 7 8 9 10; do
  port=$((20000 + RANDOM % 12000))
  if "$real" -i 127.0.0.1 -p $port "${args[@]}" 2>"$tmp/nbdkit.err"; then
    echo $port >"$tmp/port"
    cat "$tmp/nbdkit.err" >&2
    exit 0
  fi
  grep -q 'in use' "$tmp/nbdkit.err" || break
done
cat "$tmp/nbdkit.err" >&2
exit 1
END

cat >"$tmp/bin/zmemctl" <<END
#!/usr/bin/env bash
# The one server that is ours; of several it has to be said which.
sockets=('$tmp'/run/zmem/*.ctl)
[ \${#sockets[@]} -ne 1 ] || export ZMEM_CONTROL="\${sockets[0]}"
exec timeout -k 5 $client_seconds '$ZMEMCTL' "\$@"
END

cat >"$tmp/bin/qemu-system-x86_64" <<END
#!/usr/bin/env bash
echo quit | timeout -k 5 $client_seconds '$(type -P qemu-system-x86_64)' \
  "\$@" -S -display none -serial none -monitor stdio
END
chmod +x "$tmp/bin/"*

#----------------------------------------------------------------------
# What recipes start, and leave.

shell_pid=

end_recipes () {
  local file pid where
  # The deepest first.
  while read -r where; do umount "$where"; done \
    < <(awk -v f="$tmp/" 'index ($2, f) == 1 { print $2 }' /proc/self/mounts |
          sort -r)
  if [ -e "$tmp/pidfiles" ]; then
    while read -r file; do
      pid=
      [ ! -s "$file" ] || read -r pid <"$file"
      [ -z "$pid" ] || [ "$(cat "/proc/$pid/comm" 2>/dev/null)" != nbdkit ] ||
        end_process "$pid"
    done <"$tmp/pidfiles"
    rm -f "$tmp/pidfiles"
  fi
  # The shell, and whatever it has in the background.
  [ -z "$shell_pid" ] || kill -TERM -- "-$shell_pid" 2>/dev/null
  shell_pid=
  rm -rf "${tmp:?}"/{run,etc,var,work}
}
at_end end_recipes

#----------------------------------------------------------------------
# What a mark in brackets asks for: says why it is not here, or nothing.

missing () {
  case $1 in
    "a kernel with nbd")
      echo "it would change this machine; tests/test-vm-*.sh do it in a guest"
      ;;
    "systemd")
      echo "it would change this machine; test-systemd.sh has one of its own"
      ;;
    "/dev/fuse")
      if ! type -P nbdfuse umount fallocate >/dev/null; then
        echo "no nbdfuse, umount or fallocate"
      elif [ "$(id -u)" -ne 0 ]; then
        echo "umount is root's"
      elif [ ! -c /dev/fuse ] || ! : 2>/dev/null <>/dev/fuse; then
        echo "there is no /dev/fuse that may be opened"
      fi
      ;;
    "the right to lock memory")
      # As the recipe does, since there is no telling otherwise.
      if ! bounded nbdkit -U - "$ZMEM_PLUGIN" 8G mlock=yes \
           --run true >"$tmp/try.out" 2>&1; then
        tail -n 1 "$tmp/try.out"
      fi
      ;;
    *) return 1 ;;
  esac
  return 0
}

#----------------------------------------------------------------------
# From a file to steps, each a line of words between tabs, the first a verb:
#
#   recipe HEADING | needs WHAT | none | type LINE | see LINE | bad LINE
#
# "none" ends what "needs" has said.  Lines that go on are joined.

steps_of () {
  awk '
    function flush () {
      if (typed != "") print "type\t" typed
      typed = ""
    }
    # Underlined: the line before was a heading.
    /^(---+|===+)$/ { print "recipe\t" last; last = ""; next }
    typed != "" && more {
      sub (/^ +/, " ")
      typed = typed $0
      more = sub (/\\$/, "", typed)
      if (!more) flush ()
      next
    }
    /^\(needs .*\)$/ {
      sub (/^\(needs /, ""); sub (/\)$/, "")
      print "needs\t" $0; last = ""
      next
    }
    /^$/ { next }
    /^    [^ \t]/ {
      sub (/^    /, "")
      typed = $0
      more = sub (/\\$/, "", typed)
      if (!more) flush ()
      next
    }
    /^        [^ \t]/ { sub (/^        /, ""); print "see\t" $0; next }
    # Text: sentences, and lists.
    /^( - |   )?[^ \t]/ { if (last != "") print "none"; last = $0; print "none"
                          next }
    { print "bad\t" $0 }
    END { if (typed != "") print "bad\t" typed }'
}

# The head of docs/RECIPES explains; recipes begin at the second heading.
recipes_of () {
  case $1 in
    README) sed -n '/^Recipes$/,/^Memory$/p' "$srcdir/README" | sed '$d' ;;
    *) awk 'NR > 3 && /^---+$/ { print last; on = 1 } on { print }
            { last = $0 }' "$srcdir/$1" ;;
  esac
}

#----------------------------------------------------------------------
# One line, typed into the shell of the recipes.

start_shell () {
  coproc recipe_shell {
    cd "$tmp/work" && PATH=$tmp/bin:$PATH exec setsid bash --norc --noprofile
  } 2>"$tmp/shell.log"
  # shellcheck disable=SC2154
  shell_pid=$recipe_shell_PID
  exec {to_shell}>&"${recipe_shell[1]}" {from_shell}<&"${recipe_shell[0]}"
}

# substituted LINE: names of this test's own.
substituted () {
  local port=
  [ ! -s "$tmp/port" ] || read -r port <"$tmp/port"
  sed -E -e "s#/(run|etc)/zmem#$tmp/\\1/zmem#g" \
         -e "s#/var/lib/prometheus#$tmp&#g" \
         -e "s#(nbds?://([a-z]+@)?)HOST#\\1localhost:$port#g" \
         -e "s#HOST#localhost#g" <<<"$1"
}

# say LINE: its output is in $tmp/seen; exits as it does.
say () {
  local status
  printf '%s\n' "{ $1" "} >'$tmp/seen' 2>&1 </dev/null" 'echo $?' \
         >&"$to_shell"
  if ! read -r -t $((client_seconds + 30)) status <&"$from_shell"; then
    echo "the shell has not answered" >>"$tmp/seen"
    return 1
  fi
  return "$status"
}

run_line () {
  local line=$1 status pid
  typed=$(substituted "$line")
  case $line in
    *"# a moment later")
      wait_for 120 say "$typed"
      status=$?
      ;;
    *)
      say "$typed"
      status=$?
      ;;
  esac
  # Who types is slower than a server that ends.
  if [[ $line == kill\ * ]]; then
    for pid in $(eval "echo ${typed#kill }"); do
      wait_for 120 process_ended "$pid" ||
        { echo "server $pid does not end"; return 1; }
    done
  fi
  [ $status -eq 0 ] || { echo "exit status $status of: $typed"
                         cat "$tmp/seen"; return 1; }
}

# Numbers are what they are (but not their units), and so are spaces.
plain () {
  sed -E -e 's/[0-9][0-9,]*(\.[0-9]+)?/N/g' -e 's/[[:space:]]+/ /g' \
         -e 's/^ //; s/ $//'
}

# shows LINE: a line of what was seen is like it; "..." stands for anything.
shows () {
  local pattern line
  # No process substitution here: with one, when this was tried very often,
  # bash 5.2 was once seen to wait for a child that it did not have.
  plain <"$tmp/seen" >"$tmp/seen.plain"
  pattern=$(plain <<<"$1" | sed -e 's/[]\[*?\\]/\\&/g' -e 's/\.\.\./*/g')
  while read -r line; do
    # shellcheck disable=SC2053
    [[ $line != $pattern ]] || return 0
  done <"$tmp/seen.plain"
  echo "no line of these is like: $1"
  cat "$tmp/seen"
  return 1
}
# A moment later.
shows_again () { say "$typed"; shows "$1"; }

#----------------------------------------------------------------------

# end_of_recipe: it had lines, and each was run or left out.
end_of_recipe () {
  [ -n "$recipe" ] || return 0
  check "$file: $recipe: has lines" at_least $((nr_run + nr_left_out)) 1
  echo "   $recipe: $nr_run run, $nr_left_out left out"
  nr_recipes=$((nr_recipes + 1))
}

# Never run here, whatever a mark says or fails to say.
changes_the_machine='/dev/nbd|/mnt|modprobe|systemctl|swapo(n|ff)|mkswap'

run_recipes () {
  local verb text reason='' typed='' last=''
  file=$1 recipe='' nr_recipes=0 nr_run=0 nr_left_out=0
  recipes_of "$file" | steps_of >"$tmp/steps"
  mkdir -p "$tmp/work" "$tmp/run"
  rm -f "$tmp/port"
  mixed_file "$tmp/work/disk.img" $((32 * M))
  qemu-img convert -f raw -O qcow2 "$tmp/work/disk.img" \
           "$tmp/work/disk.qcow2"
  start_shell
  while IFS=$'\t' read -r verb text; do
    case $verb in
      recipe)
        end_of_recipe
        recipe=$text nr_run=0 nr_left_out=0 reason=''
        ;;
      none) reason='' ;;
      needs)
        if ! reason=$(missing "$text"); then
          fail "$file: $recipe: nothing is known of what it needs: $text"
          finish
        fi
        [ -z "$reason" ] || echo "   left out from here: $recipe: $reason"
        ;;
      type)
        last=$text
        if [ -z "$reason" ] && [[ $text =~ $changes_the_machine ]]; then
          fail "$file: $recipe: a mark says what it needs: $text"
          finish
        fi
        if [ -n "$reason" ]; then
          nr_left_out=$((nr_left_out + 1))
          echo "   left out: $text"
        else
          nr_run=$((nr_run + 1))
          # Those that follow would fail, too.
          check_line "$file: $text" "$text" || finish
        fi
        ;;
      see)
        [ -z "$reason" ] || continue
        case $last in
          *"# a moment later")
            wait_for 60 shows_again "$text"
            ;;
        esac
        check "$file: one sees: $text" shows "$text"
        ;;
      *) fail "$file: $recipe: this is no line of a recipe: $text" ;;
    esac
  done <"$tmp/steps"
  end_of_recipe
  exec {to_shell}>&- {from_shell}<&-
  end_recipes
}

# check, but in this shell's sight of $typed.
check_line () {
  if run_line "$2" >"$tmp/check.out" 2>&1; then
    pass "$1"
  else
    fail "$1" "$tmp/check.out"
    return 1
  fi
}

for file in README docs/RECIPES; do
  check "$file: lines of less than 80 characters" \
        not grep -nE '^.{80}' "$srcdir/$file"
  run_recipes "$file"
done
check "there are recipes in docs/RECIPES" at_least "$nr_recipes" 10

# Its head explains each mark that is used, and no other.
marks () { grep -oE '^(    )?\(needs [^)]*\)' | sed 's/^ *//' | sort -u; }
check "marks that are explained and that are used" is_equal \
      "$(sed '/^---/q' "$srcdir/docs/RECIPES" | marks)" \
      "$(for file in README docs/RECIPES; do recipes_of $file; done | marks)"

finish
