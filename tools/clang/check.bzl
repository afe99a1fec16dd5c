"""clang_check: every C++ source of ours through clang-16's front end, its thread-safety analysis included.

    bazel build --aspects=//tools/clang:check.bzl%clang_check --output_groups=clang_check //...

No object code is made: that is a third of what a build with --config=clang costs, and finds what it finds. As an aspect
it leaves the configuration, and with it everything that GCC has built, alone.
"""

_FLAGS = [
    "-fsyntax-only",
    "-std=c++20",
    "-fPIC",
    "-Wthread-safety",
    "-Werror",
    # Options that only GCC knows come from targets' copts.
    "-Wno-unknown-warning-option",
]

def _sources(attributes):
    files = []
    for target in getattr(attributes, "srcs", []):
        files += target.files.to_list()
    return files

def _clang_check_impl(target, ctx):
    attributes = ctx.rule.attr
    if not ctx.rule.kind in ("cc_library", "cc_binary", "cc_test") or "-w" in attributes.copts:
        return []  # -w: generated code
    contexts = [d[CcInfo].compilation_context for d in attributes.deps if CcInfo in d]
    if CcInfo in target:
        contexts.append(target[CcInfo].compilation_context)
    sources = _sources(attributes)
    own = [f for f in sources if f.extension in ("h", "inc")]
    inputs = depset(own, transitive = [c.headers for c in contexts])
    flags = ctx.actions.args()
    flags.add_all(_FLAGS)
    for prefix, sets in [
        ("-D", [c.defines for c in contexts]),
        ("-I", [c.includes for c in contexts]),
        ("-isystem", [c.system_includes for c in contexts]),
        ("-iquote", [c.quote_includes for c in contexts]),
    ]:
        flags.add_all(depset(transitive = sets), format_each = prefix + "%s")
    flags.add_all(attributes.copts)
    outputs = []
    for source in sources:
        if source.extension != "cc":
            continue
        output = ctx.actions.declare_file("_clang_check/%s/%s.ok" % (ctx.label.name, source.basename))
        ctx.actions.run_shell(
            command = 'out=$1; shift; clang++-16 "$@" && : >"$out"',
            arguments = [output.path, flags, source.path],
            inputs = depset([source], transitive = [inputs]),
            outputs = [output],
            mnemonic = "ClangCheck",
            progress_message = "Checking %s with clang" % source.short_path,
            use_default_shell_env = True,
        )
        outputs.append(output)
    return [OutputGroupInfo(clang_check = depset(outputs))]

clang_check = aspect(
    implementation = _clang_check_impl,
    doc = "Output group clang_check: one file per source in which clang finds nothing.",
)
