"""Real programs compared with native, as tests."""

load("//tests:defs.bzl", "PLATFORMS", "platform_tags")

def comparison_test(name, family, cases, tags = []):
    """<name>_<platform>: each case natively and in the sandbox; fails where they differ.

    Args:
      name: of the tests.
      family: of families.py.
      cases: names or patterns.
      tags: "long-form" for what only `tools/test --long` runs.
    """
    for platform in PLATFORMS:
        native.sh_test(
            name = name + "_" + platform,
            timeout = "eternal" if "long-form" in tags else "long",
            srcs = ["compare.sh"],
            args = [platform, family, ",".join(cases)],
            data = [
                "families.py",
                "run.py",
                "//runsc",
                "//tests/integration:support",
            ],
            tags = platform_tags(platform, tags),
        )
