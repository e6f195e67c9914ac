// The backend a verb computes with: on the device that is asked for, the tier
// that TEMPER_ISA names or the best there is, and so many threads.

#ifndef TOOLS_RUN_COMPUTE_H_
#define TOOLS_RUN_COMPUTE_H_

#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/find_backend.h"
#include "kernels/ops/backend.h"
#include "kernels/tensor/numerics.h"
#include "kernels/tensor/tensor.h"
#include "proto/config.pb.h"
#include "proto/sft_config.pb.h"

namespace temper {

// What a configuration, or a verb's flags, ask for.
struct ComputeWish {
  std::string tier = {};              // by a flag; empty: TEMPER_ISA's
  std::optional<Device> device = {};  // none: auto
  Numerics numerics = kFp32;
  int threads = 0;  // 0: this machine's cores
  // As BackendWish has it.
  std::string otherwise = BackendWish().otherwise;
};

ComputeWish WishOf(const RunConfig& config);
ComputeWish WishOf(const SftConfig& config);

// The wish of what goes on: its device is the one it began on, and stays.
ComputeWish ToGoOn(ComputeWish wish);

// Of the key device: none for auto, and back.
std::optional<Device> DeviceOf(RunConfig::Device key);
RunConfig::Device KeyOf(Device device);

// What a flag --device says: auto, cpu or cuda. InvalidArgument for another.
absl::StatusOr<std::optional<Device>> DeviceNamed(const std::string& text);

// What is computed with, and why: "avx2", "named by TEMPER_ISA". Errors as
// ChooseBackend's.
absl::StatusOr<BackendChoice> ChooseComputeBackend(const ComputeWish& wish);

// The backend of that choice. The calling thread must have the float mode that
// main sets.
absl::StatusOr<std::unique_ptr<Backend>> NewComputeBackend(
    const ComputeWish& wish);

// The same, for a verb that prints no plan: the choice is said on stderr.
absl::StatusOr<std::unique_ptr<Backend>> NewComputeBackendSayingWhy(
    const ComputeWish& wish);

// Whether TEMPER_ISA names what is computed with.
bool BackendIsNamed();

// InvalidArgument where it names what there is not. The GPU is not looked for.
absl::Status CheckNamedBackend();

// "TEMPER_ISA=avx2": what of a child's environment has it compute on the
// backend of this name.
std::string VariableNaming(const std::string& name);

int ComputeThreads(int threads);

}  // namespace temper

#endif  // TOOLS_RUN_COMPUTE_H_
