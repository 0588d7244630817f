"""The native C++ rules: Bazel's own tools load them from here; no rule of this project does."""

cc_binary = native.cc_binary
cc_import = native.cc_import
cc_library = native.cc_library
cc_test = native.cc_test
cc_toolchain = native.cc_toolchain
cc_toolchain_alias = native.cc_toolchain_alias
cc_toolchain_suite = native.cc_toolchain_suite
cc_flags_supplier = None
compiler_flag = None
