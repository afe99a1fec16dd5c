# SPDX-License-Identifier: Apache-2.0
"""The names Bazel's built-in packages load from this rule set, as the native rules."""

java_binary = native.java_binary
java_import = native.java_import
java_library = native.java_library
java_proto_library = native.java_proto_library
java_runtime = native.java_runtime
java_test = native.java_test
java_toolchain = native.java_toolchain
