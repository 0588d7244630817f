"""The native protocol buffer rules: Bazel's own tools load them from here."""

proto_lang_toolchain = native.proto_lang_toolchain
proto_library = native.proto_library
