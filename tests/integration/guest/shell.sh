#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Pipelines, redirections, here-documents, substitutions, subshells, traps and background jobs; for any POSIX shell.
. /suite/check.sh
cd /tmp || die cd

check 500500 "$(seq 1 1000 | awk '{ s += $1 } END { print s }')" "a pipeline"
check 10 "$(yes | head -n 10 | wc -l | tr -d ' ')" "SIGPIPE ends the writer"
check "c b a" "$(printf 'a\nb\nc\n' | sort -r | tr '\n' ' ' | sed 's/ $//')" "sort in a pipeline"
check "0 3" "$(false | true; printf '%s ' $?; (exit 3); echo $?)" "statuses"

# Longer than a pipe and than a page, so that the shell's temporary file or its pipe writer is used.
long=$(i=0; while [ $i -lt 2000 ]; do echo "line $i of a here-document that is longer than a pipe holds"; i=$((i + 1)); done)
check "$(printf '%s\n' "$long" | cksum)" "$(cksum <<HERE
$long
HERE
)" "a here-document of $(printf %s "$long" | wc -c) bytes"
check 'no $expansion `here`' "$(cat <<'HERE'
no $expansion `here`
HERE
)" "a quoted here-document"
check tabs "$(cat <<-HERE
	tabs
	HERE
)" "a here-document without tabs"

echo one >file; echo two >>file; echo err >&2 2>err
check "one two" "$(tr '\n' ' ' <file | sed 's/ $//')" "append"
check "" "$(cat err)" "order of redirections"
sh -c 'echo out; echo err >&2' >both 2>&1
check "out err" "$(tr '\n' ' ' <both | sed 's/ $//')" "2>&1"
(set -C; echo x >file) 2>/dev/null && die "noclobber"
exec 5<file; read -r first <&5; read -r second <&5; exec 5<&-
check "one two" "$first $second" "a descriptor kept open"
check "nothing" "$(cat <&- 2>/dev/null || echo nothing)" "a closed descriptor"

mkfifo fifo
(echo through the fifo >fifo) &
check "through the fifo" "$(cat fifo)" "FIFO"
wait

sh -c 'exit 7' & pid=$!
wait $pid; check 7 $? "wait for a job's status"
sh -c 'kill -9 $$'; check 137 $? "killed by SIGKILL"
sh -c 'kill -TERM $$'; check 143 $? "killed by SIGTERM"
sh -c 'trap "exit 9" TERM; kill -TERM $$; exit 1'; check 9 $? "a trap"
check "bye" "$(sh -c 'trap "echo bye" EXIT; exit 0')" "an EXIT trap"
sleep 100 & pid=$!
kill $pid; wait $pid; check 143 $? "a killed job"
/nonexistent 2>/dev/null; check 127 $? "command not found"
echo 'not a program' >data; ./data 2>/dev/null; check 126 $? "permission denied"
printf '#!/bin/cat\nscript text\n' >script; chmod +x script
check "#!/bin/cat script text" "$(./script | tr '\n' ' ' | sed 's/ $//')" "#!"
check "$(seq 1 200)" "$(seq 1 200 | xargs -n 1 echo)" "200 commands by xargs"
check /tmp/dir "$(mkdir -p dir && cd dir && pwd)" "cd in a subshell"
ulimit -n 20; check 20 "$(ulimit -n)" "ulimit"
umask 027; : >masked; check "-rw-r-----" "$(ls -l masked | cut -c 1-10)" "umask"
passed
