#!/usr/bin/env bash
# What README.md tells a newcomer to type exists: every verb with its flags,
# every script and file, every Bazel target.
set -u
temper=$(readlink -f "$1")
readme=$(readlink -f "$2")  # of the source tree, where the other files are
failures=0
complain() { echo "README.md: $*"; failures=$((failures + 1)); }

# Commands stand between backticks (perhaps over two lines) or indented.
commands=$(tr '\n' ' ' <"$readme" | grep -oE '`[^`]+`' | tr -d '`'
           grep -E '^    [a-z]' "$readme" | sed -E 's/^ +//; s/  +.*//')

# How many words are all in capitals.
words() { grep -oE '\b[A-Z][A-Z_]+\b' | wc -l; }

# check_flags COMMAND HELP_ARGS...: the help of these has the command's flags.
check_flags() {
  local command=$1 help flag given needed
  shift
  help=$("$temper" "$@" --help) || { complain "$command: no such verb"; return; }
  for flag in $(grep -oE -- '--[a-z-]+' <<<"$command"); do
    grep -qE -- "$flag( |,|$)" <<<"$help" ||
      complain "$command: temper $* has no $flag"
  done
  # Who gives it arguments, words in capitals, gives all that it asks for.
  given=$(sed -E 's/--[a-z-]+( [^ ]+)?//g' <<<"$command" | words)
  needed=$(grep -m1 '^Usage:' <<<"$help" | sed 's/\[[^]]*\]//g' | words)
  [ "$given" = 0 ] || [ "$given" -ge "$needed" ] ||
    complain "$command: temper $* takes $needed arguments"
}

# The sub-verbs too: "inspect {steps, group} RUN" or "config explain".
check_verb() {
  local command=$1 verb=$2 help names name
  help=$("$temper" "$verb" --help) || { complain "$command: no such verb"; return; }
  if ! grep -q "^usage: temper $verb VERB" <<<"$help"; then
    check_flags "$command" "$verb"
    return
  fi
  names=$(cut -d' ' -f3 <<<"$command")
  [[ $command =~ \{([a-z,\ -]+)\} ]] && names=${BASH_REMATCH[1]//,/ }
  for name in $names; do check_flags "$command" "$verb" "$name"; done
}

cd "$(dirname "$readme")" || exit 1
verbs=0
while read -r command; do
  if [[ $command =~ ^temper\ ([a-z][a-z-]*) ]]; then
    check_verb "$command" "${BASH_REMATCH[1]}"
    verbs=$((verbs + 1))
  elif [[ $command =~ ^tools/quickstart\.sh ]]; then
    check_flags "$command" train
  fi
done <<<"$commands"
[ "$verbs" -ge 5 ] || complain "only $verbs commands of temper were found"

for path in $(grep -oE '(tools|tests|kernels|learner|rollout|environments|proto|rewards)/[a-z0-9_/]+\.(sh|h|cc|proto|textproto|py|jsonl?)' "$readme" | sort -u); do
  [ -e "$path" ] || complain "no file $path"
done

for target in $(grep -oE '//[a-z0-9_/]+:[a-z0-9_]+' "$readme" | sort -u); do
  package=${target#//}
  package=${package%%:*}
  grep -q "name = \"${target##*:}\"" "$package/BUILD" ||
    complain "no target $target"
done

[ "$failures" = 0 ] || exit 1
