# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Sourced by tools/run and tools/test: goes to the top of the tree and sets
#   top         its absolute path
#   bazel_flags what every bazel command of these tools gets

top=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P) || exit 1
# Bazel refuses to work without a HOME, and so do some images' shells.
export HOME=${HOME:-$(getent passwd "$(id -u)" | cut -d: -f6)}
export HOME=${HOME:-/root}
# An empty environment leaves bash with a PATH that it doesn't pass on.
export PATH
bazel_flags=()

# Sets bazel_flags. The disk cache makes a fresh clone on a warm machine build in seconds. Its keys don't cover the system's
# headers and libraries, hence one cache per set of installed versions; caches of other sets are deleted.
set_bazel_flags() {
  local caches=$HOME/.cache/runsc-bazel-disk hash other size_mb
  hash=$("$top/tools/deps" --hash) || return 1
  if [[ ! -d $caches/${hash:?} ]]; then
    mkdir -p "$caches/${hash:?}" || return 1
    for other in "$caches"/*/; do
      [[ $other == "$caches/${hash:?}/" ]] || rm -rf -- "$other"
    done
  fi
  # Bazel 4 never shrinks a disk cache.
  size_mb=$(du -sm -- "$caches/${hash:?}" 2>/dev/null | cut -f 1)
  if ((${size_mb:-0} > 8192)); then rm -rf -- "$caches/${hash:?}"; fi
  bazel_flags=(--disk_cache="$caches/${hash:?}")
}
