// The optimizer of CpuBackend.

#include <algorithm>

#include "kernels/base/log.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/row_walk.h"
#include "kernels/cpu/rows.h"

namespace temper {
namespace {

constexpr int64_t kGrainElements = 4096;
constexpr int64_t kSquaresBlock = 4096;
constexpr int64_t kGrainBlocks = 8;

int64_t BlocksOf(const Tensor& x) {
  return x.empty() ? 0 : (x.elements() + kSquaresBlock - 1) / kSquaresBlock;
}

// The squares of one block of the elements, in order. A square of a float is
// exact in double, so an FMA here would have the same bits.
double BlockSquares(const RowWalk& walk, int64_t block) {
  const int64_t width = walk.row_elements();
  const int64_t elements = walk.rows() * width;
  const int64_t end = std::min(elements, (block + 1) * kSquaresBlock);
  double sum = 0;
  for (int64_t at = block * kSquaresBlock; at < end;) {
    const int64_t column = at % width;
    const int64_t stop = std::min(width, column + end - at);
    const float* row = walk.floats(at / width);
    for (int64_t j = column; j < stop; ++j) {
      sum += static_cast<double>(row[j]) * static_cast<double>(row[j]);
    }
    at += stop - column;
  }
  return sum;
}

// The sum of `values`, which it overwrites, by neighbours: 0 + 1, 2 + 3, .., an
// odd last passes up; again until there is one. 0 of none.
double AddNeighbours(double* values, int64_t count) {
  if (count == 0) return 0;
  while (count > 1) {
    for (int64_t i = 0; i < count / 2; ++i) {
      values[i] = values[2 * i] + values[2 * i + 1];
    }
    if (count % 2 == 1) values[count / 2] = values[count - 1];
    count = (count + 1) / 2;
  }
  return values[0];
}

}  // namespace

void CpuBackend::SumSquares(absl::Span<const Tensor> tensors,
                            const Tensor& out) {
  double* total = AsVector<double>(out, 1);
  int64_t blocks = 0;
  for (const Tensor& x : tensors) {
    CHECK(x.dtype() == DType::kF32) << x.DebugString();
    blocks += BlocksOf(x);
  }
  // Doubles: the blocks' sums, then the tensors', which overtake nothing that
  // is still to be read.
  auto* sums = reinterpret_cast<double*>(SharedScratch(2 * blocks));
  auto* of_tensor = sums;
  double* of_block = sums;
  for (const Tensor& x : tensors) {
    const RowWalk walk(x);
    const int64_t count = BlocksOf(x);
    pool_.ParallelFor(count, kGrainBlocks,
                      [&](int, int64_t begin, int64_t end) {
                        for (int64_t i = begin; i < end; ++i) {
                          of_block[i] = BlockSquares(walk, i);
                        }
                      });
    const double sum = AddNeighbours(of_block, count);
    of_block += count;
    if (count > 0) *of_tensor++ = sum;
  }
  total[0] = AddNeighbours(sums, of_tensor - sums);
}

void CpuBackend::AdamW(const AdamWArgs& args) {
  for (const Tensor* x : {&args.grad, &args.p, &args.m, &args.v}) {
    CHECK(x->contiguous() && x->dtype() == DType::kF32) << x->DebugString();
    CHECK_EQ(x->elements(), args.p.elements());
  }
  CHECK(args.options.bias_correction1 > 0 && args.options.bias_correction2 > 0);
  const AdamWFactors factors = {
      .beta1 = args.options.beta1,
      .one_minus_beta1 = 1 - args.options.beta1,
      .beta2 = args.options.beta2,
      .one_minus_beta2 = 1 - args.options.beta2,
      .step_size = args.options.learning_rate / args.options.bias_correction1,
      .inverse_sqrt_correction2 =
          1 / __builtin_sqrtf(args.options.bias_correction2),
      .eps = args.options.eps,
      .decay = args.options.learning_rate * args.options.weight_decay,
      .grad_scale = args.options.grad_scale,
  };
  const float* g = args.grad.as<const float>();
  float* param = args.p.as<float>();
  float* first = args.m.as<float>();
  float* second = args.v.as<float>();
  pool_.ParallelFor(
      args.p.elements(), kGrainElements, [&](int, int64_t begin, int64_t end) {
        // In pieces that stay in L1 over the three passes.
        for (int64_t i = begin; i < end; i += 1024) {
          tier_.adamw(factors, g + i, param + i, first + i, second + i,
                      std::min<int64_t>(1024, end - i));
        }
      });
}

}  // namespace temper
