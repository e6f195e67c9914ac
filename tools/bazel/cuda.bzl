"""cuda_kernels: .cu files, by nvcc for a GPU and by g++ for the emulator."""

load("@bazel_tools//tools/cpp:toolchain_utils.bzl", "find_cpp_toolchain")
load("@cuda//:defs.bzl", "NVCC")

# One kind of GPU, and the arithmetic of DESIGN.md section 6: no contraction,
# denormals to zero, IEEE division and square root.
NVCC_FLAGS = [
    "-std=c++20",
    "-O3",
    "-gencode=arch=compute_90a,code=sm_90a",
    "-fmad=false",
    "-ftz=true",
    "-prec-div=true",
    "-prec-sqrt=true",
    "-Werror=all-warnings",
    "-Xcompiler=-Wall,-Wextra,-Werror",
    "-Xptxas=-v",
]

def _nvcc_library_impl(ctx):
    if not NVCC:
        fail("there is no CUDA toolkit: neither in CUDA_HOME nor in /usr/local/cuda")
    dep_infos = [dep[CcInfo] for dep in ctx.attr.deps]
    contexts = [info.compilation_context for info in dep_infos]
    headers = depset(ctx.files.hdrs, transitive = [context.headers for context in contexts])
    includes = depset(transitive = [
        folders
        for context in contexts
        for folders in [context.quote_includes, context.system_includes, context.includes]
    ])
    objects = []
    logs = []
    assemblies = []
    for src in ctx.files.srcs:
        obj = ctx.actions.declare_file(ctx.label.name + "_objects/" + src.basename + ".o")
        args = ctx.actions.args()
        args.add_all(NVCC_FLAGS)
        args.add("-I.")
        args.add_all(includes, format_each = "-I%s")
        args.add_all(["-c", src, "-o", obj])
        # What ptxas says of each kernel is kept: a test may hold it to a plan.
        log = ctx.actions.declare_file(ctx.label.name + "_objects/" + src.basename + ".ptxas")
        # And what it was given.
        ptx = ctx.actions.declare_file(ctx.label.name + "_objects/" + src.basename + ".ptx")
        ctx.actions.run_shell(
            command = " && ".join([
                'log=$1 ptx=$2; shift 2; mkdir -p "$ptx.d"',
                '{ "$@" -keep -keep-dir "$ptx.d" 2> "$log" || { cat "$log" >&2; false; }; }',
                'mv "$ptx.d"/*.ptx "$ptx"',
                'rm -r "$ptx.d"',
            ]),
            arguments = [log.path, ptx.path, NVCC, args],
            inputs = depset([src], transitive = [headers]),
            outputs = [obj, log, ptx],
            mnemonic = "Nvcc",
            use_default_shell_env = True,
        )
        logs.append(log)
        assemblies.append(ptx)
        objects.append(obj)

    toolchain = find_cpp_toolchain(ctx)
    features = cc_common.configure_features(ctx = ctx, cc_toolchain = toolchain)
    linking_context, _ = cc_common.create_linking_context_from_compilation_outputs(
        actions = ctx.actions,
        name = ctx.label.name,
        feature_configuration = features,
        cc_toolchain = toolchain,
        compilation_outputs = cc_common.create_compilation_outputs(
            objects = depset(objects),
            pic_objects = depset(objects),
        ),
        linking_contexts = [info.linking_context for info in dep_infos],
        disallow_dynamic_library = True,
    )
    return [
        DefaultInfo(
            data_runfiles = ctx.runfiles(files = objects),
            files = depset(objects),
        ),
        OutputGroupInfo(ptxas = depset(logs), ptx = depset(assemblies)),
        cc_common.merge_cc_infos(
            direct_cc_infos = [CcInfo(
                compilation_context = cc_common.create_compilation_context(headers = headers),
                linking_context = linking_context,
            )],
            cc_infos = dep_infos,
        ),
    ]

_nvcc_library = rule(
    implementation = _nvcc_library_impl,
    attrs = {
        "deps": attr.label_list(providers = [CcInfo]),
        "hdrs": attr.label_list(allow_files = [".h"]),
        "srcs": attr.label_list(allow_files = [".cu"]),
        "_cc_toolchain": attr.label(
            default = Label("@bazel_tools//tools/cpp:current_cc_toolchain"),
        ),
    },
    fragments = ["cpp"],
    toolchains = ["@bazel_tools//tools/cpp:toolchain_type"],
)

def cuda_kernels(name, srcs, hdrs = [], deps = [], testonly = False, visibility = None):
    """Two libraries of the same sources.

    `name` is compiled by nvcc and linked with the CUDA runtime; without a
    toolkit it is "manual", so that //... builds without one.
    `name`_emulated, for tests alone, is compiled by the C++ compiler and runs on
    kernels/cuda/simt.

    Args:
      name: the target.
      srcs: .cu files, which include kernels/cuda/simt/device.h.
      hdrs: what launches the kernels, in words that both compilers know.
      deps: of both.
      testonly: as everywhere.
      visibility: as everywhere, of both.
    """
    _nvcc_library(
        name = name,
        testonly = testonly,
        srcs = srcs,
        hdrs = hdrs,
        tags = [] if NVCC else ["manual"],
        visibility = visibility,
        deps = deps + [
            "//kernels/cuda/simt:device",
            "@cuda//:cudart",
        ],
    )

    # The native rules know no .cu, so each is included by a source of its own.
    package = native.package_name()
    sources = []
    for src in srcs:
        sources.append("%s_emulated/%s.cc" % (name, src[:-len(".cu")]))
        native.genrule(
            name = "%s_of_%s" % (src[:-len(".cu")], name),
            testonly = True,
            outs = [sources[-1]],
            cmd = "echo '#include \"%s/%s\"' > $@" % (package, src),
        )
    native.cc_library(
        name = name + "_emulated",
        testonly = True,
        srcs = sources,
        hdrs = hdrs,
        # An fma is the instruction, which every machine of the tests has. The
        # emulator looks at every access by what the compiler calls for
        # ThreadSanitizer, and wants their lines (of DWARF 5 addr2line 2.40
        # names another file). What was a register stays one.
        copts = [
            "-mfma",
            "-fno-math-errno",
            "-fstack-reuse=none",
            "-fno-sanitize=address,alignment",
            "-fsanitize=thread",
            "-g1",
            "-gdwarf-4",
        ],
        textual_hdrs = srcs,
        visibility = visibility,
        deps = deps + ["//kernels/cuda/simt:emulator"],
    )
