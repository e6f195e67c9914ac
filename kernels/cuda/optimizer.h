// Launches of the optimizer (kernels/ops/backend.h), each over many tensors,
// whose descriptions lie on the device. All enqueue and return; operands were
// checked.

#ifndef KERNELS_CUDA_OPTIMIZER_H_
#define KERNELS_CUDA_OPTIMIZER_H_

#include <cstdint>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/pointwise.h"

namespace temper::cuda {

// Elements whose squares are added in order.
inline constexpr int64_t kSquaresBlock = 4096;

// A tensor of at least one element.
struct SquaresTensor {
  View x;
  bool dense = false;   // its elements lie row-major without gaps
  bool narrow = false;  // bf16
  int64_t first_block = 0;
  int64_t blocks = 0;
};

struct SquaresArgs {
  const SquaresTensor* tensors = nullptr;  // on the device; null: `one` alone
  SquaresTensor one;
  int64_t count = 0;
  int64_t blocks = 0;           // of all
  double* of_block = nullptr;   // scratch [blocks]
  double* of_tensor = nullptr;  // scratch [count]
  double* out = nullptr;        // [1]
};
void SumSquares(const SquaresArgs& args, Stream stream);

// Sets the fault kNumbers unless sqrt(squares / elements) is at most `limit`.
void CheckNumbers(const double* squares, double elements, double limit,
                  uint32_t* fault, Stream stream);

struct AdamWSlice {
  const float* grad = nullptr;
  float* p = nullptr;
  float* m = nullptr;
  float* v = nullptr;
  int64_t first = 0;  // element, of all tensors'
  bool decays = true;
};

struct AdamWArgs {
  float beta1, one_minus_beta1;
  float beta2, one_minus_beta2;
  float step_size;                 // learning_rate / bias_correction1
  float inverse_sqrt_correction2;  // 1 / sqrt(bias_correction2)
  float eps;
  float decay;  // learning_rate * weight_decay
  float grad_scale;
  const AdamWSlice* slices = nullptr;  // on the device, `first` ascending
  int64_t count = 0;
  int64_t elements = 0;
};
void AdamW(const AdamWArgs& args, Stream stream);

}  // namespace temper::cuda

#endif  // KERNELS_CUDA_OPTIMIZER_H_
