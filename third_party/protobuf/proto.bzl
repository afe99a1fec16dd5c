"""cc_proto: C++ code from .proto files, by the protoc of the protobuf-compiler package.

    load("//third_party/protobuf:proto.bzl", "cc_proto")

    cc_proto(name = "control_cc_proto", srcs = ["control.proto"])
    # #include "runsc/sandbox/control.pb.h"; import "runsc/sandbox/control.proto";

Paths are relative to the workspace root, in #include as in import.
"""

def _cc_proto_gen_impl(ctx):
    direct = ctx.files.srcs
    transitive = depset(direct, transitive = [d[ProtoFiles].files for d in ctx.attr.deps])
    outputs = []
    for src in direct:
        stem = src.basename[:-len(".proto")]
        outputs.append(ctx.actions.declare_file(stem + ".pb.cc"))
        outputs.append(ctx.actions.declare_file(stem + ".pb.h"))
    ctx.actions.run(
        executable = "/usr/bin/protoc",
        arguments = ["-I.", "--cpp_out=" + ctx.bin_dir.path] + [s.path for s in direct],
        inputs = transitive,
        outputs = outputs,
        mnemonic = "Protoc",
        progress_message = "Generating C++ from %s" % ctx.label,
    )
    headers = [o for o in outputs if o.extension == "h"]
    sources = [o for o in outputs if o.extension == "cc"]
    return [
        DefaultInfo(files = depset(outputs)),
        OutputGroupInfo(headers = depset(headers), sources = depset(sources)),
        ProtoFiles(files = transitive),
    ]

ProtoFiles = provider(fields = ["files"], doc = "The .proto files a rule makes code from, with those they import.")

_cc_proto_gen = rule(
    implementation = _cc_proto_gen_impl,
    attrs = {
        "srcs": attr.label_list(allow_files = [".proto"], mandatory = True),
        "deps": attr.label_list(providers = [ProtoFiles]),
    },
)

def cc_proto(name, srcs, deps = [], lite = False, **kwargs):
    """A cc_library with the messages of `srcs`.

    Args:
      name: of the cc_library.
      srcs: .proto files of this package.
      deps: cc_proto targets whose files are imported.
      lite: link libprotobuf-lite; every file must say `option optimize_for = LITE_RUNTIME;`.
      **kwargs: for cc_library (visibility, testonly, ...).
    """
    passed_on = {k: v for k, v in kwargs.items() if k in ("visibility", "testonly", "tags")}
    _cc_proto_gen(
        name = name + "_gen",
        srcs = srcs,
        deps = [d + "_gen" if ":" in d else d + ":" + d.split("/")[-1] + "_gen" for d in deps],
        **passed_on
    )
    native.filegroup(name = name + "_hdrs", srcs = [name + "_gen"], output_group = "headers", **passed_on)
    native.filegroup(name = name + "_srcs", srcs = [name + "_gen"], output_group = "sources", **passed_on)
    native.cc_library(
        name = name,
        srcs = [name + "_srcs"],
        hdrs = [name + "_hdrs"],
        # Generated code is not held to the warnings of //:defs.bzl.
        copts = ["-w"],
        deps = deps + ["//third_party/protobuf:protobuf_lite" if lite else "//third_party/protobuf"],
        **kwargs
    )
