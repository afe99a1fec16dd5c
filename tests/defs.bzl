"""syscall_test: one gtest program, run on the host's kernel and on ours."""

load("//:defs.bzl", "COPTS")

# The platforms every syscall_test runs on, besides the host's kernel.
PLATFORMS = ["ptrace", "systrap", "kvm"]

def platform_tags(platform, tags = []):
    """The tags of a test that runs real programs: on kvm only `tools/test --long` does, since /dev/kvm may be slow software."""
    long = ["long-form"] if platform == "kvm" and "long-form" not in tags else []
    return ["local", platform] + long + tags

def syscall_test(name, srcs, deps = [], size = "small", tags = [], platforms = PLATFORMS, long_platforms = [], linkopts = [], **kwargs):
    """Builds the gtest program `name` and the tests <name>_native, <name>_ptrace, ...

    The native test shows that the program states what Linux does; only then does a sandboxed run mean something.

    Args:
      name: of the program, which is also good for a run by hand: bazel-bin/tests/syscalls/NAME, natively or with
        tools/run. It has gtest's main(); a program that needs its own defines main() itself, which wins.
      srcs: of the program.
      deps: beside gtest.
      size: of each test: small is 60 s of time, medium 300 s, large 900 s.
      tags: for the tests, e.g. "long-form" for one that only `tools/test --long` runs.
      platforms: the sandboxed runs.
      long_platforms: those of them that only `tools/test --long` runs.
      linkopts: for the program.
      **kwargs: for the tests: flaky, shard_count, data, ...
    """
    native.cc_binary(
        name = name,
        testonly = True,
        srcs = srcs,
        copts = COPTS,
        linkopts = linkopts,
        deps = deps + ["//third_party/gtest:gtest_main"],
    )
    data = kwargs.pop("data", [])
    native.sh_test(
        name = name + "_native",
        size = size,
        srcs = ["//tests:run_native.sh"],
        args = ["$(location :%s)" % name],
        data = [":" + name] + data,
        # local: Bazel's sandbox (a user and a pid namespace, read-only mounts) would change the results.
        tags = ["local", "native"] + tags,
        **kwargs
    )
    for platform in platforms:
        native.sh_test(
            name = name + "_" + platform,
            size = size,
            srcs = ["//tests:run_in_sandbox.sh"],
            args = ["$(location //runsc)", platform, "$(location :%s)" % name],
            data = ["//runsc", ":" + name] + data,
            tags = ["local", platform] + tags + (["long-form"] if platform in long_platforms else []),
            **kwargs
        )
