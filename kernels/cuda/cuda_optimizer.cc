// The optimizer of CudaBackend: what its tensors are goes up as one table.

#include <vector>

#include "kernels/base/log.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device_rows.h"
#include "kernels/cuda/optimizer.h"
#include "kernels/ops/shape_check.h"

namespace temper {

using cuda::ScratchPlan;

double* CudaBackend::Squares(absl::Span<const Tensor> tensors, double* out) {
  std::vector<cuda::SquaresTensor> table;
  int64_t blocks = 0;
  for (const Tensor& x : tensors) {
    CHECK(x.dtype() == DType::kF32 || x.dtype() == DType::kBF16)
        << x.DebugString();
    if (x.elements() == 0) continue;
    table.push_back(
        {.x = cuda::ViewOf(x),
         .dense = x.contiguous(),
         .narrow = x.dtype() == DType::kBF16,
         .first_block = blocks,
         .blocks = cuda::CeilDiv(x.elements(), cuda::kSquaresBlock)});
    blocks += table.back().blocks;
  }
  const auto count = static_cast<int64_t>(table.size());
  ScratchPlan plan;
  const auto on_device = plan.Add<cuda::SquaresTensor>(count);
  const auto of_block = plan.Add<double>(blocks);
  const auto of_tensor = plan.Add<double>(count);
  const auto sum = plan.Add<double>(1);
  char* const scratch = Scratch(plan.bytes());
  if (scratch == nullptr) return nullptr;
  if (out == nullptr) out = sum.in(scratch);
  // One goes with the launch: a graph's steps check numbers, and nothing comes
  // up in a graph.
  cuda::SquaresArgs args = {.count = count,
                            .blocks = blocks,
                            .of_block = of_block.in(scratch),
                            .of_tensor = of_tensor.in(scratch),
                            .out = out};
  if (count == 1) {
    args.one = table[0];
  } else {
    args.tensors = on_device.in(scratch);
    const absl::Status staged =
        Upload(table.data(), on_device.in(scratch),
               count * static_cast<int64_t>(sizeof(cuda::SquaresTensor)));
    // A device that failed says so at the next wait.
    if (!staged.ok()) return nullptr;
  }
  cuda::SumSquares(args, stream());
  return out;
}

void CudaBackend::SumSquares(absl::Span<const Tensor> tensors,
                             const Tensor& out) {
  CHECK_EQ(out.dim(0), 1) << out.DebugString();
  Squares(tensors, cuda::VectorOf<double>(out));
}

void CudaBackend::AdamW(const AdamWOptions& options,
                        absl::Span<const AdamWTensor> tensors) {
  std::vector<cuda::AdamWSlice> table;
  int64_t elements = 0;
  for (const AdamWTensor& tensor : tensors) {
    CheckShapes(tensor);
    for (const Tensor* x : {&tensor.grad, &tensor.p, &tensor.m, &tensor.v}) {
      CHECK(x->device() == Device::kCuda) << x->DebugString();
    }
    if (tensor.p.elements() == 0) continue;
    table.push_back({.grad = tensor.grad.as<const float>(),
                     .p = tensor.p.as<float>(),
                     .m = tensor.m.as<float>(),
                     .v = tensor.v.as<float>(),
                     .first = elements,
                     .decays = tensor.decays});
    elements += tensor.p.elements();
  }
  CHECK(options.bias_correction1 > 0 && options.bias_correction2 > 0);
  const auto count = static_cast<int64_t>(table.size());
  ScratchPlan plan;
  const auto slices = plan.Add<cuda::AdamWSlice>(count);
  char* const scratch = Scratch(plan.bytes());
  if (scratch == nullptr) return;
  const absl::Status staged =
      Upload(table.data(), slices.in(scratch),
             count * static_cast<int64_t>(sizeof(cuda::AdamWSlice)));
  if (!staged.ok()) return;  // said at the next wait
  cuda::AdamW({.beta1 = options.beta1,
               .one_minus_beta1 = 1 - options.beta1,
               .beta2 = options.beta2,
               .one_minus_beta2 = 1 - options.beta2,
               .step_size = options.learning_rate / options.bias_correction1,
               .inverse_sqrt_correction2 =
                   1 / __builtin_sqrtf(options.bias_correction2),
               .eps = options.eps,
               .decay = options.learning_rate * options.weight_decay,
               .grad_scale = options.grad_scale,
               .slices = slices.in(scratch),
               .count = count,
               .elements = elements},
              stream());
}

}  // namespace temper
