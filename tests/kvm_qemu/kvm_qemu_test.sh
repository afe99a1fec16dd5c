#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The kvm platform under full hardware semantics: QEMU in software emulation with nested AMD-V, a Debian kernel inside it.
#   kvm_qemu_test.sh CPUS RUNSC UNIT_TEST... -- SYSCALL_TEST...
# Unit tests run by themselves, the others in `runsc --platform=kvm do`, as do busybox and python3. KVM_QEMU_ONLY=NAME
# runs one of them. Prints one line for each; SKIPPED, with the reason, where it cannot run. Times mean nothing here.
set -u
here=$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")
(($# >= 2)) || { echo "usage: kvm_qemu_test.sh CPUS RUNSC UNIT_TEST... -- SYSCALL_TEST..." >&2; exit 2; }
cpus=$1 runsc=$2
shift 2

work=$(mktemp -d "${TEST_TMPDIR:-/tmp}/kvm-qemu.XXXXXX") || exit 2
qemu=
trap '[[ -n $qemu ]] && kill -KILL "$qemu" 2>/dev/null; rm -rf -- "$work"' EXIT
export HOME=${HOME:-/root}
machine=$("$here/machine.sh" 2>"$work/why")
case $? in
  0) ;;
  77) echo "SKIPPED: $(cat "$work/why")" && exit 0 ;;
  *) cat "$work/why" >&2 && exit 1 ;;
esac

# The payload: programs without debug information, and the libraries they name.
payload=$work/cpio/payload root=$work/cpio/payload/rootfs
mkdir -p "$payload/bin" "$root/etc" "$root/usr/lib" "$root/bin"
copy() { objcopy -g "$1" "$payload/bin/$(basename -- "$1")" 2>/dev/null || cp -- "$1" "$payload/bin/"; }
units=() calls=() into=units programs=()
for program in "$@"; do
  if [[ $program == -- ]]; then
    into=calls
    continue
  fi
  copy "$(realpath -- "$program")"
  programs+=("$program")
  if [[ $into == units ]]; then units+=("$(basename -- "$program")"); else calls+=("$(basename -- "$program")"); fi
done
copy "$(realpath -- "$runsc")"
python=$(realpath /usr/bin/python3 2>/dev/null) || python=
[[ -n $python ]] && cp -- "$python" "$root/bin/python3"
cp -L -- /bin/bash /bin/true "$root/bin/" # tests run a `true` that is no part of busybox
for library in $(ldd "${programs[@]}" $python /bin/bash | grep -o '/[^ )]*' | grep -v ':$' | sort -u); do
  mkdir -p "$root$(dirname -- "$library")" && cp -L -- "$library" "$root$library"
done
if [[ -n $python ]]; then
  version=$(basename -- "$python")
  mkdir -p "$root/usr/lib/$version"
  tar -C "/usr/lib/$version" -c --exclude=__pycache__ --exclude=./test --exclude=./idlelib --exclude=./lib2to3 --exclude='./config-*' \
    --exclude=./ensurepip --exclude=./tkinter --exclude=./dist-packages --exclude=./pydoc_data --exclude=./distutils . |
    tar -C "$root/usr/lib/$version" -x
fi
printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"

cat >"$payload/run" <<'END'
only=$(cat /payload/only)
failed=0
sandbox() { /payload/bin/runsc --root /tmp/state --platform="${platform:-kvm}" "${flags[@]}" do -- "$@"; }
one() { # NAME COMMAND...
  local name=$1 begin=$SECONDS status
  shift
  [[ -n $only && $only != "$name" ]] && return
  ("$@") >/tmp/log 2>&1
  status=$?
  grep -a -E '^(exits|[0-9]+ rounds)' /tmp/log
  if ((status == 0)); then
    echo "ok $name ($((SECONDS - begin)) s): $(grep -a -E '^\[  (PASSED|SKIPPED) ' /tmp/log | tr '\n' ' ')"
  else
    failed=1
    echo "FAILED $name: status $status"
    grep -a -v -E '^\[ +(OK|RUN) ' /tmp/log | tail -n 60
    dmesg | tail -n 5
  fi
}
flags=()
export TEST_TMPDIR=/tmp
[[ -c /dev/kvm ]] || { echo "FAILED: no /dev/kvm in the machine"; dmesg | tail -n 20; exit 1; }
for name in $(cat /payload/units); do one "$name" "/payload/bin/$name" --gtest_brief=0; done
busybox_says() { [[ $(sandbox /bin/busybox sh -c 'seq 1 1000 | wc -l; uname -s; cat /proc/self/comm') == $'1000\nLinux\ncat' ]]; }
python_says() { [[ $(sandbox /bin/python3 -c 'import hashlib, subprocess, threading
total = []
threads = [threading.Thread(target=lambda: total.append(sum(range(10000)))) for _ in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
print(sum(total), subprocess.run(["/bin/busybox", "echo", "child"], capture_output=True).stdout.decode().strip(), 2.5 ** 10)') == "399960000 child 9536.7431640625" ]]; }
says_why() { # the log names how ring 3 is entered
  flags=(--debug --debug-log=/tmp/logs/)
  mkdir -p /tmp/logs && rm -f /tmp/logs/*
  sandbox /bin/true || return 1
  grep -h -a 'kvm platform\|platform kvm\|platform systrap' /tmp/logs/* | cut -c 1-300
  grep -q -a "$1" /tmp/logs/*
}
one busybox busybox_says
[[ -e /bin/python3 ]] && one python3 python_says
one ring0_log says_why 'ring 3 is entered by iretq and sysretq; system calls are answered in ring 0'
grep -a platform /tmp/log
platform=auto one auto_log says_why 'platform kvm is not taken\|platform kvm: self-test passed'
grep -a platform /tmp/log
# What the emulated CPU itself gets wrong (unmasked SSE exceptions) fails natively, too, and says nothing of the platform.
native_failures() { timeout 300 "/payload/bin/$1" 2>&1 | sed -n 's/^\[  FAILED  \] \([^ ,]*\)[ ,].* ms)$/\1/p' | sort -u | tr '\n' ':'; }
for name in $(cat /payload/calls); do
  [[ -n $only && $only != "$name" ]] && continue
  except=
  if [[ $name == fault_test ]]; then
    except=$(native_failures "$name")
    [[ -n $except ]] && echo "$name: without what fails natively in this machine: $except"
  fi
  one "$name" sandbox "/payload/bin/$name" --gtest_filter="-$except"
done
exit $failed
END
echo "${units[*]-}" >"$payload/units"
echo "${calls[*]-}" >"$payload/calls"
echo "${KVM_QEMU_ONLY-}" >"$payload/only"
(cd "$work/cpio" && find . | cpio -o -H newc -R 0:0 --quiet) >"$work/payload.cpio" || exit 2
cat "$machine/base.cpio" "$work/payload.cpio" >"$work/initrd" && rm -rf -- "$work/cpio" "$work/payload.cpio"

limit=$((${TEST_TIMEOUT:-3600} - 20))
timeout --kill-after=5 "$limit" qemu-system-x86_64 -accel tcg,thread=single -cpu max,-la57,-smap -smp "$cpus" -m 2048 \
  -kernel "$machine/vmlinux" -initrd "$work/initrd" -append "console=ttyS0 quiet panic=-1 mitigations=off nokaslr tsc=reliable" \
  -nodefaults -no-user-config -display none -no-reboot -monitor none -serial "file:$work/console" -serial stdio \
  -chardev "file,id=e,path=$work/status" -device isa-debugcon,iobase=0xe9,chardev=e \
  -device isa-debug-exit,iobase=0xf4,iosize=1 </dev/null &
qemu=$!
wait "$qemu"
status=$?
qemu=
if [[ ! -s $work/status ]]; then
  echo "kvm_qemu_test.sh: the machine died, or took more than $limit s (status $status); its console ends with:" >&2
  tail -n 40 "$work/console" >&2
  exit 1
fi
[[ $(cat "$work/status") == 0 ]]
