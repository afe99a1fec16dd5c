# SPDX-License-Identifier: Apache-2.0
# For guest shell scripts: `check WANTED GOT WHAT` fails the script; `passed` prints the line that proves its end.
check() {
  [ "$1" = "$2" ] && return 0
  echo "FAILED: $3: wanted '$1', got '$2'" >&2
  exit 1
}
die() {
  echo "FAILED: $*" >&2
  exit 1
}
passed() { echo PASSED; }
