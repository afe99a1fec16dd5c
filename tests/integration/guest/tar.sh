#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tar c | tar x gives an identical tree: a real one, and one with everything that tar keeps. Prints it for a comparison
# with the native run.
. /suite/check.sh
describe() {
  (cd "$1" && find . ! -type d -printf '%p %y %m %U %G %s %n %T@ %l\n' && find . -type d -printf '%p %y %m %U %G %T@\n') | LC_ALL=C sort
  (cd "$1" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum)
}
mkdir -p /var/tmp/odd/deep/er /var/tmp/copy /var/tmp/copy2 && cd /var/tmp/odd || die cd
echo hard >hard; ln hard deep/hardlink; ln -s ../hard deep/symlink; ln -s /nonexistent dangling
mkfifo fifo; mknod null c 1 3; mknod block b 7 0
echo setuid >setuid; chown 12:34 setuid; chmod 6751 setuid
echo sticky >sticky; chmod 1644 sticky; mkdir -m 3770 shared; chown 7:8 shared
truncate -s 100M sparse; echo end >>sparse
: >empty; printf 'name with\nnewline' >"new
line"; echo "ü" >"ünï"
for i in $(seq 1 200); do echo "$i" >"deep/er/$(printf 'long%.0s' $(seq 1 40))$i"; done
touch -h -d '2001-02-03 04:05:06.789012345' hard dangling deep/er shared fifo
cp /bin/true program
tar c --sparse --format=posix -C /var/tmp/odd . | tar x -p --same-owner -C /var/tmp/copy || die "tar of the odd tree"
describe /var/tmp/odd >/tmp/one
describe /var/tmp/copy >/tmp/two
diff /tmp/one /tmp/two || die "the copy of the odd tree differs"
check "$(stat -c %i /var/tmp/copy/hard)" "$(stat -c %i /var/tmp/copy/deep/hardlink)" "the hard link"
[ "$(stat -c %b /var/tmp/copy/sparse)" -lt 2048 ] || die "the sparse file has $(stat -c %b /var/tmp/copy/sparse) blocks"
tar c --format=posix -C /usr lib/git-core share/perl5 share/perl sbin 2>/dev/null | tar x -p -C /var/tmp/copy2 || die "tar of /usr"
for part in lib/git-core share/perl5 share/perl sbin; do
  describe "/usr/$part" >/tmp/one
  describe "/var/tmp/copy2/$part" >/tmp/two
  # Hard links to names outside of the part are counted in the original only.
  diff <(sed -E 's/ [0-9]+( [0-9]+\.[0-9]+ ?[^ ]*)$/\1/' /tmp/one) <(sed -E 's/ [0-9]+( [0-9]+\.[0-9]+ ?[^ ]*)$/\1/' /tmp/two) | head -n 5 | grep . && die "the copy of /usr/$part differs"
  echo "--- $part"
  cat /tmp/one
done
rm -r /var/tmp/odd /var/tmp/copy /var/tmp/copy2 || die "rm -r"
[ -e /var/tmp/copy ] && die "rm -r leaves the copy"
passed
