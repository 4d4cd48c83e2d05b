#!/bin/sh
# netdiag @@TOOL@@: what this host knows of its network, for somebody who looks for a lost packet.
#
# WHAT IT DOES   It prints facts of this host as plain text:
#                @@WHAT@@.
# WHAT IT LEAVES It only reads. It installs nothing, writes no file (only its standard output), starts no service,
#                sends no packet, changes no rule or setting, and loads no kernel module: a tool that could load one
#                is run only where /proc says that the module is there already.
# NO SECRETS     No environment variables, labels, command lines or join tokens are asked for. Whatever looks like
#                a join token, or like the user and password of a URL, is replaced before it is printed.
# HOW TO RUN     sh collect.sh > collect.txt      as root it sees more; without root it says what it could not see
# HOW TO CUT     Read it first. Take out any part between two lines of dashes, or any single line that begins
#                with "run", "show" or "docker_": what is missing in the end is reported as not asked.
# AND THEN       Read collect.txt, take out what you would rather not send, and send it back. It is read by
#                'netdiag analyze MINE collect.txt'.
#
# Made @@MADE_UTC@@ on @@MADE_ON@@. Any POSIX shell runs it (dash, busybox ash, bash, ksh); it needs awk.
#
# shellcheck disable=SC2012,SC2016
# (ls is read only for numbers; programs of awk and templates of docker are meant to stand in single quotes)

set -u
LC_ALL=C
export LC_ALL
# The administrator's tools are often not in an ordinary user's PATH.
PATH=${PATH:-/usr/bin:/bin}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH

command -v awk >/dev/null 2>&1 || { echo "collect.sh: this host has no awk" >&2; exit 1; }

# ---- helpers ------------------------------------------------------------------------------------------------------

# have TOOL: whether there is such a tool.
have() { command -v "$1" >/dev/null 2>&1; }

# patiently SECONDS COMMAND…: the command, ended after so many seconds where there is a timeout(1).
patiently() { shift; "$@"; }
if timeout 5 true 2>/dev/null; then
  patiently() { timeout "$@"; }
elif timeout -t 5 true 2>/dev/null; then
  patiently() { timeout -t "$@"; }
fi
# within SECONDS COMMAND…: the same, but for busybox, whose timeout keeps its output open for a second: only the engine's
# first answer is waited for patiently there.
case "$(timeout --help 2>&1)" in
  *BusyBox*) within() { shift; "$@"; } ;;
  *) within() { patiently "$@"; } ;;
esac

# masked MARK: every line of its input behind MARK, without join tokens and without the user and password of a URL.
masked() {
  awk -v mark="$1" '{
    gsub(/SWMTKN-[A-Za-z0-9-]+/, "SWMTKN-(withheld)")
    gsub(/:\/\/[^" ]*@/, "://***@")
    gsub(/"HttpProxy":"[^"\/]*@/, "\"HttpProxy\":\"***@")
    gsub(/"HttpsProxy":"[^"\/]*@/, "\"HttpsProxy\":\"***@")
    print mark $0
  }'
}

# fd 3 is the output: what a command prints on fd 1 goes through "masked" first.
exec 3>&1

# begin NAME and finish END: the first and the last line of what one command or file gave.
begin() { printf '@begin %s\n' "$1" >&3; }
finish() { printf '@end %s\n' "$1" >&3; }

# absent NAME KIND WHY: something that is not asked, or cannot be.
absent() {
  begin "$1"
  printf '!%s\n' "$3" >&3
  finish "$2"
}

# record NAME SECONDS COMMAND…: run a command with nothing on its input; its output, its errors, its exit code.
record() {
  name=$1
  shift
  begin "$name"
  # The exit code comes back behind the errors: a pipe would lose it.
  said=$({ { within "$@" </dev/null 2>&4; echo "code $?" >&4; } 4>&5 | masked '|' >&3; } 5>&1)
  code=${said##*code }
  said=${said%code *}
  [ -z "$said" ] || printf '%s' "$said" | head -n 5 | masked '!' >&3
  finish "$code"
}

# run COMMAND…: record it under its own words.
run() {
  if have "$1"; then
    record "command $*" 10 "$@"
  else
    absent "command $*" missing "no such tool on this host"
  fi
}

# show PATH…: the text of files, each on its own.
show() {
  for path in "$@"; do
    if [ ! -e "$path" ]; then
      absent "file $path" missing "no such file"
    elif [ ! -f "$path" ]; then
      absent "file $path" unsupported "not a regular file"
    elif [ ! -r "$path" ]; then
      absent "file $path" permission "not allowed to read it"
    else
      record "file $path" 5 cat "$path"
    fi
  done
}

# show_there PATH…: as show, without a word about those that do not exist.
show_there() {
  for path in "$@"; do
    [ ! -e "$path" ] || show "$path"
  done
}

# show_part PATH COMMAND…: what a command picks from a file; that it finds nothing is no error.
show_part() {
  path=$1
  shift
  if [ -r "$path" ]; then
    begin "file $path"
    within 5 "$@" </dev/null 2>/dev/null | masked '|' >&3
    finish 0
  else
    absent "file $path" missing "no such file, or not allowed to read it"
  fi
}

# values PATH…: one line for each file of one value (sysctls); those that do not exist are passed over.
values() {
  readable=
  for path in "$@"; do
    [ ! -r "$path" ] || readable="$readable $path"
  done
  # Not by the shell's own read: some read byte by byte, and a sysctl gives itself only once.
  # shellcheck disable=SC2086 # the paths are the arguments
  [ -z "$readable" ] || awk 'FNR == 1 { print "|" FILENAME " " $0 }' $readable >&3 2>/dev/null
}

# title TEXT: a line for who reads the output.
title() { printf '#\n# %s\n' "$1" >&3; }

printf '@netdiag/script/1\n@tool %s\n@parts %s\n@made %s %s\n' '@@TOOL@@' '@@PARTS@@' '@@MADE_S@@' '@@MADE_ON@@' >&3
