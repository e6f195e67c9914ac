#include "kernels/cuda/gpu_survey.h"

#include "absl/strings/str_cat.h"

namespace temper {

std::string LackOf(int major, int minor, int compute_mode) {
  if (major != 9 || minor != 0) {
    return absl::StrCat(
        "has compute capability ", major, ".", minor,
        "; the kernels are compiled for 9.0 (H100, H200) alone");
  }
  // cudaComputeModeDefault. One process alone is too few: learner and workers
  // have the GPU together.
  if (compute_mode == 0) return "";
  return absl::StrCat(
      "is in compute mode ",
      compute_mode == 2 ? "Prohibited" : "Exclusive_Process",
      ", where processes cannot share it; `nvidia-smi -c DEFAULT` ends that");
}

}  // namespace temper
