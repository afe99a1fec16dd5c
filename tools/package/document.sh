#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# document.sh man|completion RUNSC: the manual page runsc(8), or the bash completion, from what RUNSC says of itself.
set -euo pipefail

runsc=$2
version=$("$runsc" version | sed -n 's/^runsc version //p')
# "name  text" lines of the list of commands.
commands() { "$runsc" help | sed -n '/^commands:/,/^$/s/^  \([a-z-]*\)  *\(.*\)$/\1 \2/p'; }
names() { commands | cut -d' ' -f1; }
# "  --flag, -x VALUE" and indented texts as roff.
flags_as_roff() {
  sed -n -e 's/\\/\\e/g; s/-/\\-/g' -e 's/^  \(\\-\\-.*\)$/.TP\n.B \1/p' -e 's/^        \(.*\)$/\\\&\1/p'
}
flags_of() { "$runsc" help "$1" | sed -n 's/^  \(--[a-z0-9-]*\).*/\1/p'; }

man_page() {
  local name
  cat <<ROFF
.TH RUNSC 8 "" "runsc $version" "System Administration"
.SH NAME
runsc \\- run containers, each on a kernel of its own in user space
.SH SYNOPSIS
.B runsc
.RI [ "GLOBAL FLAGS" ]
.I COMMAND
.RI [ FLAGS ]
.RI [ ARG... ]
.SH DESCRIPTION
runsc is an OCI runtime: Docker, containerd and podman use it as they use runc. The programs of a container run in a sandbox, whose own kernel, a
process called the sentry, serves all their system calls. The host's kernel sees a small, fixed and filtered set of calls.
.SH COMMANDS
ROFF
  for name in $(names); do
    printf '.SS runsc %s\n' "$name"
    "$runsc" help "$name" | sed -n '3{s/-/\\-/g;p}'
    "$runsc" help "$name" | flags_as_roff
  done
  printf '.SH GLOBAL FLAGS\n'
  "$runsc" flags | flags_as_roff
  cat <<'ROFF'
.SH EXIT STATUS
That of the container's program, 128 + the signal that ended it, or 128 where the command failed: one line on standard error, and in the file of
.BR \-\-log ,
says why.
.SH SEE ALSO
.BR containerd\-shim\-runsc\-v1 (8),
.BR runc (8),
.BR docker (1)
ROFF
}

completion() {
  local name
  cat <<BASH
# bash completion for runsc
_runsc() {
  local word=\${COMP_WORDS[COMP_CWORD]} command='' i words
  for ((i = 1; i < COMP_CWORD; i++)); do
    [[ \${COMP_WORDS[i]} == -* ]] || { command=\${COMP_WORDS[i]}; break; }
  done
  case \$command in
    '')
      words='$(names | tr '\n' ' ')'
      [[ \$word != -* ]] || words='$("$runsc" flags | sed -n 's/^  \(--[a-z0-9-]*\).*/\1/p' | tr '\n' ' ')'
      ;;
BASH
  for name in $(names); do
    printf "    %s) words='%s' ;;\n" "$name" "$(flags_of "$name" | tr '\n' ' ')"
  done
  cat <<'BASH'
    *) words='' ;;
  esac
  # Behind a command: its flags, else names of containers and files.
  if [[ -n $command && $word != -* ]]; then
    words=$(runsc list -q 2>/dev/null)
    compopt -o default
  fi
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}
complete -F _runsc runsc
BASH
}

case $1 in
  man) man_page ;;
  completion) completion ;;
esac
