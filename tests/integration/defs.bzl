"""Tests of the integration suite: each on the host's kernel and in the sandbox."""

load("//tests:defs.bzl", "PLATFORMS", "platform_tags")

_SUPPORT = [
    "bundle.py",
    "container.sh",
    "driver.sh",
    "enter_chroot.sh",
    "overlay.sh",
    "rootfs.sh",
]

def _tests(name, script, args, tags = [], data = [], platforms = PLATFORMS):
    # The roots are in a cache outside of Bazel, which the first test to need one fills: hence long.
    for driver in ["native"] + platforms:
        native.sh_test(
            name = name + "_" + driver,
            timeout = "long",
            srcs = [script],
            args = [driver] + args,
            data = _SUPPORT + native.glob(["guest/*"]) + data + ([] if driver == "native" else ["//runsc"]),
            # local: needs root, namespaces and cgroups, and a state of the machine that Bazel's sandbox changes.
            tags = platform_tags(driver, tags),
        )

def guest_test(name, command, root = "debian", options = [], limit = 120, tags = [], platforms = PLATFORMS):
    """<name>_native, <name>_ptrace, ...: a command in a root that ends with status 0 and the line PASSED.

    Args:
      name: of the tests.
      command: in the guest; the files of guest/ are in /suite.
      root: busybox or debian.
      options: of run_guest.sh.
      limit: seconds.
      tags: "long-form" for what only `tools/test --long` runs.
      platforms: the sandboxed runs.
    """
    _tests(name, "run_guest.sh", [root] + options + ["--limit", str(limit), "--", command], tags, platforms = platforms)

def host_test(name, script, args = [], tags = []):
    """<name>_native, <name>_ptrace, ...: a script that takes the driver as its first argument."""
    # Alone: they count processes and bound times.
    _tests(name, script, args, tags + ["exclusive"])
