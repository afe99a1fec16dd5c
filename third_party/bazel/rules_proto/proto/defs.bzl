# SPDX-License-Identifier: Apache-2.0
"""The names Bazel's built-in packages load from this rule set, as the native rules."""

proto_library = native.proto_library
proto_lang_toolchain = native.proto_lang_toolchain
