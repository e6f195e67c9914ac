"""External repositories, all made from packages already on the machine.

The build never reaches the network: every library comes from a Debian package
(tools/setup.sh installs them) and is found by pkg-config, or for the packages
that ship headers alone, by the compiler's default path. CUDA, where it is, lies
in CUDA_HOME or /usr/local/cuda.
"""

_RULES_CC_DEFS = """\
cc_binary = native.cc_binary
cc_library = native.cc_library
cc_proto_library = native.cc_proto_library
cc_test = native.cc_test
cc_toolchain = native.cc_toolchain
cc_toolchain_suite = native.cc_toolchain_suite
"""

def _rules_cc_impl(ctx):
    # Debian ships rules_cc 0.0.4 beside Bazel 4.2.3, but 0.0.4 loads a symbol
    # (use_cpp_toolchain) that 4.2.3 does not have. The native rules suffice.
    ctx.file("cc/BUILD")
    ctx.file("cc/defs.bzl", _RULES_CC_DEFS)

def _coverage_tools_impl(ctx):
    # Bazel resolves this label for every test, even with coverage off.
    ctx.file("BUILD", "filegroup(name = \"coverage_report_generator\", " +
                      "visibility = [\"//visibility:public\"])\n")

def _pkg_config_impl(ctx):
    lines = ["package(default_visibility = [\"//visibility:public\"])"]
    for name, modules in ctx.attr.libraries.items():
        result = ctx.execute(["pkg-config", "--libs"] + modules)
        if result.return_code != 0:
            fail("pkg-config %s: %s" % (" ".join(modules), result.stderr))
        flags = result.stdout.strip().split(" ")
        lines.append("cc_library(name = \"%s\", linkopts = %s)" % (name, repr(flags)))
    for name in ctx.attr.header_only:
        lines.append("cc_library(name = \"%s\")" % name)
    ctx.file("BUILD", "\n".join(lines) + "\n")

def _cuda_impl(ctx):
    # With no toolkit the repository is there all the same, so that //... loads:
    # cuda.bzl then leaves out what needs one.
    root = ctx.os.environ.get("CUDA_HOME", "/usr/local/cuda")
    lines = ["package(default_visibility = [\"//visibility:public\"])"]
    found = ctx.path(root + "/bin/nvcc").exists
    linkopts = ["-L%s/lib64" % root, "-lcudart_static", "-ldl", "-lpthread", "-lrt"]
    lines.append("cc_library(name = \"cudart\", linkopts = %s)" % repr(linkopts if found else []))

    # For what speaks to the runtime and holds no kernel. A query over all that
    # may be built asks for it on every machine.
    headers = ""
    if found:
        ctx.symlink(root + "/include", "include")
        headers = (", includes = [\"include\"], " +
                   "hdrs = glob([\"include/*.h\", \"include/*.hpp\", \"include/crt/**\"])")
    lines.append("cc_library(name = \"headers\"%s)" % headers)
    ctx.file("BUILD", "\n".join(lines) + "\n")
    ctx.file("defs.bzl", "NVCC = %s\n" % repr(root + "/bin/nvcc" if found else ""))

_cuda = repository_rule(implementation = _cuda_impl, environ = ["CUDA_HOME"])
_rules_cc = repository_rule(implementation = _rules_cc_impl)
_coverage_tools = repository_rule(implementation = _coverage_tools_impl)
_pkg_config = repository_rule(
    implementation = _pkg_config_impl,
    attrs = {
        "header_only": attr.string_list(),
        "libraries": attr.string_list_dict(mandatory = True),
    },
)

def system_repositories():
    """Defines every external repository the build needs."""
    _rules_cc(name = "rules_cc")
    _coverage_tools(name = "remote_coverage_tools")
    native.local_repository(name = "rules_java", path = "/usr/share/bazel/rules/java")
    _cuda(name = "cuda")
    _pkg_config(
        name = "system",
        header_only = ["cli11", "cppzmq", "nlohmann_json"],
        libraries = {
            "absl_base": ["absl_base", "absl_raw_logging_internal"],
            "absl_container": ["absl_flat_hash_map", "absl_flat_hash_set"],
            "absl_status": ["absl_status", "absl_statusor"],
            "absl_strings": ["absl_strings", "absl_str_format"],
            "absl_synchronization": ["absl_synchronization"],
            "absl_time": ["absl_time"],
            "crypto": ["libcrypto"],
            "gmock_main": ["gmock_main"],
            "grpc": ["grpc++"],
            "pcre2": ["libpcre2-8"],
            "protobuf": ["protobuf"],
            "seccomp": ["libseccomp"],
            "sqlite3": ["sqlite3"],
            "zmq": ["libzmq"],
        },
    )
