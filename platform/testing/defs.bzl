"""platform_tests: the tests every platform passes, built for one."""

load("//:defs.bzl", "COPTS")

_TESTS = [
    "address_space_test",
    "context_test",
    "events_test",
    "leak_test",
]

def platform_tests(platform, test_platform):
    """Makes <test>s and roundtrip_bench in the caller's package.

    Args:
      platform: its name.
      test_platform: a library with the definitions that test_guest.h leaves to platforms.
    """
    for name in _TESTS:
        native.cc_test(
            name = name,
            srcs = ["//platform/testing:%s.cc" % name],
            copts = COPTS,
            # local: they make processes of other kinds than Bazel's sandbox allows.
            tags = ["local", platform],
            deps = [
                "//platform/testing:test_guest",
                "//third_party/gtest:gtest_main",
                test_platform,
            ],
        )
    native.cc_binary(
        name = "roundtrip_bench",
        testonly = True,
        srcs = ["//platform/testing:roundtrip_bench.cc"],
        copts = COPTS,
        deps = [
            "//platform/testing:test_guest",
            test_platform,
        ],
    )
