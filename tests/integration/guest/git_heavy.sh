#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# git over a tree of 3000 files: index, pack with threads, mmap'd packs, parallel clones, rebase, bisect, worktrees, bundle.
. /suite/check.sh
export GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@example.com GIT_COMMITTER_NAME=A GIT_COMMITTER_EMAIL=a@example.com
git config --global init.defaultBranch main && git config --global gc.auto 0 || die config
git init -q /root/big && cd /root/big || die init
python3 - <<'PY' || die "files"
import os
for d in range(30):
    os.mkdir(f"d{d}")
    for f in range(100):
        with open(f"d{d}/f{f}", "w") as out:
            out.writelines(f"{d} {f} {line}\n" for line in range(f))
PY
git add . && git commit -qm base || die "the first commit"
for i in $(seq 1 40); do
  echo "change $i" >>"d$((i % 30))/f$i" && git commit -qam "change $i" || die "commit $i"
done
git -c pack.threads=4 repack -q -a -d -f --depth=20 || die repack
git fsck --full --strict >/dev/null 2>/tmp/fsck || die "fsck: $(cat /tmp/fsck)"
jobs=()
for i in 1 2 3 4; do git clone -q --no-local /root/big "/tmp/clone$i" & jobs+=($!); done
for job in "${jobs[@]}"; do wait "$job" || die "a clone"; done
for i in 1 2 3 4; do check "" "$(git -C "/tmp/clone$i" status --porcelain)" "clone $i"; done
git checkout -q -b topic HEAD~20 && echo topic >topic && git add topic && git commit -qm topic && git rebase -q main || die rebase
check 42 "$(git rev-list --count HEAD)" "commits after a rebase"
git bisect start HEAD "$(git rev-list --max-parents=0 HEAD)" >/dev/null && git bisect run sh -c '! grep -q "change 17" d17/f17' >/tmp/bisect || die bisect
grep -q 'is the first bad commit' /tmp/bisect && grep -q 'change 17' /tmp/bisect || die "bisect: $(tail -n 5 /tmp/bisect)"
git bisect reset -q 2>/dev/null
git worktree add -q /tmp/tree main && check "$(git rev-parse main)" "$(git -C /tmp/tree rev-parse HEAD)" "a worktree"
git bundle create -q /tmp/all.bundle --all && git clone -q -b main /tmp/all.bundle /tmp/unbundled || die bundle
diff -r --exclude=.git /tmp/unbundled /tmp/tree || die "the tree of the bundle"
check 3000 "$(git grep -l -e . main -- 'd*' | wc -l | awk '{print $1 + 30}')" "git grep, without the 30 empty files"
git stash list >/dev/null && echo x >>d1/f1 && git stash -q && git stash pop -q && git checkout -q -- d1/f1 || die stash
git archive --format=tar main | tar -tf - | grep -c '[^/]$' | grep -qx 3000 || die archive
passed
