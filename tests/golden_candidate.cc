// golden_candidate DIR OUT.safetensors: the values of a golden directory as the
// production code of the CPU backend computes them. TEMPER_ISA picks the tier.
// Exit 0 done, 1 failed, 2 misused.

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "kernels/base/float_mode.h"
#include "kernels/base/status_macros.h"
#include "kernels/find_backend.h"
#include "tests/fp8_golden_values.h"
#include "tests/golden_file.h"
#include "tests/golden_values.h"

namespace temper {
namespace {

// `bazel run` starts us in the runfiles; a relative path is the caller's.
std::string CallersPath(const std::string& path) {
  const char* dir = std::getenv("BUILD_WORKING_DIRECTORY");
  return dir == nullptr || path[0] == '/' ? path
                                          : std::string(dir) + "/" + path;
}

// In FP8 the names of fp32 are written too: they say what FP8 stands beside.
absl::Status Run(Backend* backend, bool fp8, const std::string& dir,
                 const std::string& out) {
  ASSIGN_OR_RETURN(GoldenTensors tensors, ComputeGoldenValues(backend, dir));
  if (fp8) {
    ASSIGN_OR_RETURN(GoldenTensors more, ComputeFp8GoldenValues(backend, dir));
    tensors.merge(more);
  }
  return WriteGoldenFile(out, tensors);
}

int Main(int argc, char** argv) {
  SetFlushDenormals();
  const bool fp8 = argc == 5 && std::string(argv[3]) == "--numerics" &&
                   std::string(argv[4]) == "fp8";
  if ((argc != 3 && !fp8) || argv[1][0] == '\0' || argv[2][0] == '\0') {
    std::fprintf(stderr,
                 "usage: golden_candidate DIR OUT.safetensors "
                 "[--numerics fp8]\n");
    return 2;
  }
  const char* tier = std::getenv("TEMPER_ISA");
  const auto backend =
      FindBackend({.name = tier == nullptr ? "" : tier, .threads = 2});
  if (!backend.ok()) {
    std::fprintf(stderr, "TEMPER_ISA: %s\n",
                 backend.status().ToString().c_str());
    return 2;
  }
  const absl::Status status =
      Run(backend->get(), fp8, CallersPath(argv[1]), CallersPath(argv[2]));
  if (status.ok()) return 0;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return 1;
}

}  // namespace
}  // namespace temper

int main(int argc, char** argv) { return temper::Main(argc, argv); }
