// The optimizer of CpuBackend.

#include <algorithm>

#include "kernels/base/log.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/row_walk.h"
#include "kernels/cpu/rows.h"
#include "kernels/ops/shape_check.h"
#include "kernels/tensor/bf16.h"

namespace temper {
namespace {

constexpr int64_t kGrainElements = 4096;
constexpr int64_t kSquaresBlock = 4096;
constexpr int64_t kGrainBlocks = 8;

int64_t BlocksOf(const Tensor& x) {
  return x.empty() ? 0 : (x.elements() + kSquaresBlock - 1) / kSquaresBlock;
}

float ValueOf(float x) { return x; }
float ValueOf(BF16 x) { return FloatFromBF16(x); }

// The squares of one block of the elements, in order. A square of a float is
// exact in double, so an FMA here would have the same bits.
template <typename Element>
double BlockSquares(const RowWalk& walk, int64_t block) {
  const int64_t width = walk.row_elements();
  const int64_t elements = walk.rows() * width;
  const int64_t end = std::min(elements, (block + 1) * kSquaresBlock);
  double sum = 0;
  for (int64_t at = block * kSquaresBlock; at < end;) {
    const int64_t column = at % width;
    const int64_t stop = std::min(width, column + end - at);
    const auto* row = reinterpret_cast<const Element*>(walk.row(at / width));
    for (int64_t j = column; j < stop; ++j) {
      const double value = ValueOf(row[j]);
      sum += value * value;
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
    CHECK(x.dtype() == DType::kF32 || x.dtype() == DType::kBF16)
        << x.DebugString();
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
    const auto squares =
        x.dtype() == DType::kBF16 ? BlockSquares<BF16> : BlockSquares<float>;
    pool_.ParallelFor(count, kGrainBlocks,
                      [&](int, int64_t begin, int64_t end) {
                        for (int64_t i = begin; i < end; ++i) {
                          of_block[i] = squares(walk, i);
                        }
                      });
    const double sum = AddNeighbours(of_block, count);
    of_block += count;
    if (count > 0) *of_tensor++ = sum;
  }
  total[0] = AddNeighbours(sums, of_tensor - sums);
}

void CpuBackend::AdamW(const AdamWOptions& options,
                       absl::Span<const AdamWTensor> tensors) {
  int64_t elements = 0;
  for (const AdamWTensor& tensor : tensors) {
    CheckShapes(tensor);
    elements += tensor.p.elements();
  }
  CHECK(options.bias_correction1 > 0 && options.bias_correction2 > 0);
  const AdamWFactors factors = {
      .beta1 = options.beta1,
      .one_minus_beta1 = 1 - options.beta1,
      .beta2 = options.beta2,
      .one_minus_beta2 = 1 - options.beta2,
      .step_size = options.learning_rate / options.bias_correction1,
      .inverse_sqrt_correction2 = 1 / __builtin_sqrtf(options.bias_correction2),
      .eps = options.eps,
      .grad_scale = options.grad_scale,
  };
  const float decay = options.learning_rate * options.weight_decay;
  // Cut through all tensors as if they lay one after the other: a thread's
  // piece begins in one and may end in another. Elements do not know of each
  // other, so where the cuts fall does not show.
  pool_.ParallelFor(
      elements, kGrainElements, [&](int, int64_t begin, int64_t end) {
        AdamWFactors mine = factors;
        int64_t first = 0;  // of this tensor among all
        for (const AdamWTensor& tensor : tensors) {
          const int64_t size = tensor.p.elements();
          const int64_t from = std::max<int64_t>(begin - first, 0);
          const int64_t to = std::min(end - first, size);
          first += size;
          mine.decay = tensor.decays ? decay : 0.0f;
          // In pieces that stay in L1 over the three passes.
          for (int64_t i = from; i < to; i += 1024) {
            tier_.adamw(mine, tensor.grad.as<const float>() + i,
                        tensor.p.as<float>() + i, tensor.m.as<float>() + i,
                        tensor.v.as<float>() + i,
                        std::min<int64_t>(1024, to - i));
          }
        }
      });
}

}  // namespace temper
