// Launches of the normalisations (kernels/ops/backend.h). All enqueue and
// return; operands were checked.

#ifndef KERNELS_CUDA_NORM_H_
#define KERNELS_CUDA_NORM_H_

#include <cstdint>

#include "kernels/cuda/launch.h"
#include "kernels/ops/rows.h"

namespace temper::cuda {

// Of a row; an RmsNorm's mean is 0.
struct Moments {
  float mean;
  float inverse;
};

struct NormArgs {
  Rows<const float> x;
  const float* w;
  const float* b;  // of a LayerNorm; null: an RmsNorm
  float eps;
  Rows<float> y;
};
void Norm(const NormArgs& args, Stream stream);

struct NormGrads {
  Rows<const float> x;
  const float* w;
  float eps;
  Rows<const float> dy;
  Rows<float> dx;    // may be dy
  float* dw;         // +=
  float* db;         // += of a LayerNorm; null: an RmsNorm
  Moments* moments;  // scratch [rows]
};
void NormBackward(const NormGrads& args, Stream stream);

}  // namespace temper::cuda

#endif  // KERNELS_CUDA_NORM_H_
