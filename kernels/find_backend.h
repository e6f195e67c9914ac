// The one place that knows which devices there are, and chooses: whoever
// computes, verbs and tests alike, asks for a backend by name.

#ifndef KERNELS_FIND_BACKEND_H_
#define KERNELS_FIND_BACKEND_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/cuda/gpu_survey.h"
#include "kernels/ops/backend.h"
#include "kernels/tensor/numerics.h"
#include "kernels/tensor/tensor.h"

namespace temper {

struct BackendSpec {
  std::string name;  // of BackendNames(), or "cuda"; empty: the fastest tier
  int threads = 1;   // that compute, the caller included; at least 1
};

// The CPU's tiers that this machine can run (kernels/cpu/cpu_tier.h), slowest
// first; the first is the definition of every number. The GPU's backend is
// called "cuda".
std::vector<std::string> BackendNames();

// What somebody asks to compute on, and in.
struct BackendWish {
  std::string name = {};  // a tier, or "cuda"; empty: none is named
  // None: cuda where it can be had for these numerics, else the CPU.
  std::optional<Device> device = {};
  Numerics numerics = kFp32;
  // What else can be done where there is no cuda, for the refusal to say.
  std::string otherwise = "set device to cpu";
};

struct BackendChoice {
  std::string name;  // as FindBackend takes it
  Device device = Device::kCpu;
  std::string why;               // for a plan, after the name
  int64_t gpu_memory_bytes = 0;  // of the whole GPU; 0: it is the CPU
};

// What the wish comes to on this machine. InvalidArgument where it cannot be
// had, naming what is missing: a name that is none, a name and a device that
// are not of each other, cuda without a GPU or in numerics that its kernels do
// not have. FailedPrecondition where the CPU can run no tier.
absl::StatusOr<BackendChoice> ChooseBackend(const BackendWish& wish);

// The same on a machine whose GPUs are as `survey` says; asked only where the
// wish hangs on it, for asking starts the driver.
absl::StatusOr<BackendChoice> ChooseBackend(
    const BackendWish& wish, const std::function<GpuSurvey()>& survey);

// Of this machine and this program: one that was built without CUDA sees none.
// Starts the driver in this process, which may start threads.
GpuSurvey SurveyGpus();

// A line for a report: each GPU and the numerics it computes in or what it
// lacks, the driver, and which one is taken, or why none is.
std::string WordsOf(const GpuSurvey& survey);

// "fp32", or "fp32, bf16, fp8": in what the kernels of a device compute.
std::string NumericsThatRunOn(Device device);

// InvalidArgument unless it is empty, "cuda", or a tier that this CPU can run.
absl::Status CheckBackendName(const std::string& name);

// InvalidArgument, naming those there are, for a name that is none of them;
// FailedPrecondition where the machine can run none, where the backend does not
// reproduce the definition, or for "cuda" where there is no GPU or the program
// was built without it. The calling thread must have the float mode of
// kernels/base/float_mode.h (CHECKed).
absl::StatusOr<std::unique_ptr<Backend>> FindBackend(const BackendSpec& spec);

}  // namespace temper

#endif  // KERNELS_FIND_BACKEND_H_
