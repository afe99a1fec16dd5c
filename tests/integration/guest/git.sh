#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# git init, commit, branch, merge, clone over the local transport, fsck, gc.
. /suite/check.sh
cd /tmp || die cd
export GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@example.com GIT_COMMITTER_NAME=A GIT_COMMITTER_EMAIL=a@example.com
export GIT_AUTHOR_DATE='1700000000 +0000' GIT_COMMITTER_DATE='1700000000 +0000'
git config --global init.defaultBranch main || die "git config"
git init -q one || die "git init"
cd one || die cd
for i in $(seq 1 30); do
  mkdir -p "d$((i % 5))"
  seq 1 $((i * 20)) >"d$((i % 5))/file$i"
done
git add . && git commit -qm first || die "git commit"
check 16dd11062994c7a9420e3f39a1e49c6aa8fbf2f6 "$(git rev-parse HEAD)" "the identity that these names, dates and files give"
git checkout -qb side && echo side >>d1/file1 && git commit -qam side || die "a branch"
git checkout -q main && echo main >>d2/file2 && git commit -qam main && git merge -q --no-edit side || die "a merge"
check "" "$(git status --porcelain)" "a clean tree"
git clone -q /tmp/one /tmp/two || die "git clone"
git clone -q --no-local /tmp/one /tmp/three || die "git clone by the pack protocol"
for copy in two three; do
  check "$(git rev-parse HEAD)" "$(git -C /tmp/$copy rev-parse HEAD)" "the head of $copy"
  diff -r --exclude=.git /tmp/one /tmp/$copy || die "the tree of $copy"
done
echo pushed >/tmp/two/d0/new && cd /tmp/two && git add . && git commit -qm new || die "commit in the clone"
git push -q origin HEAD:refs/heads/pushed || die "git push"
check pushed "$(git -C /tmp/one show pushed:d0/new)" "the pushed file"
git -C /tmp/one gc -q --prune=now || die "git gc"
git -C /tmp/one fsck --full --strict 2>/tmp/fsck || die "git fsck: $(cat /tmp/fsck)"
git -C /tmp/one log --oneline --all | wc -l | grep -qx ' *5' || die "git log"
passed
