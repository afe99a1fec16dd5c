#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A .deb is built, installed by apt-get, upgraded by dpkg, verified and purged: fsync, rename, locks, maintainer scripts.
. /suite/check.sh
cd /tmp || die cd
build() {
  mkdir -p pkg/DEBIAN pkg/usr/share/integration pkg/etc
  printf 'Package: integration-hello\nVersion: %s\nArchitecture: all\nMaintainer: T <t@example.com>\nDescription: test\n' "$1" >pkg/DEBIAN/control
  echo /etc/integration.conf >pkg/DEBIAN/conffiles
  printf '#!/bin/sh\nset -e\n[ "$1" = configure ] && echo "configured %s" >>/var/tmp/postinst.log\nexit 0\n' "$1" >pkg/DEBIAN/postinst
  chmod 755 pkg/DEBIAN/postinst
  echo "version $1" >pkg/usr/share/integration/file
  ln -sf file pkg/usr/share/integration/link
  echo default >pkg/etc/integration.conf
  for i in $(seq 1 50); do echo "$i" >"pkg/usr/share/integration/f$i"; done
  dpkg-deb --root-owner-group -b pkg "$2" >/dev/null || die "dpkg-deb"
}
build 1.0 one.deb
build 2.0 two.deb
apt-get install -y ./one.deb >log 2>&1 || die "apt-get install: $(tail -n 8 log)"
check "install ok installed 1.0" "$(dpkg-query -W -f '${Status} ${Version}' integration-hello)" "the status"
check "version 1.0" "$(cat /usr/share/integration/link)" "the installed file"
echo edited >/etc/integration.conf
dpkg --force-confold -i two.deb >log 2>&1 || die "dpkg -i: $(tail -n 8 log)"
check "version 2.0" "$(cat /usr/share/integration/link)" "the upgraded file"
check edited "$(cat /etc/integration.conf)" "the kept configuration"
check "configured 1.0 configured 2.0" "$(tr '\n' ' ' </var/tmp/postinst.log | sed 's/ $//')" "maintainer scripts"
check "??5?????? c /etc/integration.conf" "$(dpkg --verify integration-hello)" "dpkg --verify"
# The lock keeps a second dpkg out.
(
  python3 - <<'PY'
import fcntl, subprocess, sys
lock = open("/var/lib/dpkg/lock", "w")
fcntl.lockf(lock, fcntl.LOCK_EX)
done = subprocess.run(["dpkg", "-r", "integration-hello"], capture_output=True, text=True)
sys.exit(0 if done.returncode == 2 and "lock" in done.stderr else "dpkg ignores the lock: " + done.stderr)
PY
) || die "the lock"
apt-get purge -y integration-hello >log 2>&1 || die "apt-get purge: $(tail -n 8 log)"
[ -e /usr/share/integration ] && die "files are left after purge"
[ -e /etc/integration.conf ] && die "configuration is left after purge"
dpkg --audit | grep -q . && die "dpkg --audit: $(dpkg --audit)"
passed
