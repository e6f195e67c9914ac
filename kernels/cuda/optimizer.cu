#include "kernels/cuda/device_math.h"
#include "kernels/cuda/device_view.h"
#include "kernels/cuda/optimizer.h"

namespace temper::cuda {
namespace {

// The last of `count` whose first(i) is at most `at`.
template <typename First>
__device__ inline int64_t LastFrom(int64_t count, int64_t at,
                                   const First& first) {
  int64_t begin = 0, end = count;
  while (end - begin > 1) {
    const int64_t middle = (begin + end) / 2;
    if (first(middle) <= at) {
      begin = middle;
    } else {
      end = middle;
    }
  }
  return begin;
}

__device__ inline double ValueOf(const SquaresTensor& x, int64_t i) {
  const int64_t offset = x.dense ? i : OffsetOf(x.x, i);
  const float value =
      x.narrow ? FloatFromBf16(static_cast<const uint16_t*>(x.x.data)[offset])
               : static_cast<const float*>(x.x.data)[offset];
  return static_cast<double>(value);
}

__device__ inline const SquaresTensor& TensorOf(const SquaresArgs& args,
                                                int64_t i) {
  return args.tensors == nullptr ? args.one : args.tensors[i];
}

// A thread a block of elements, in order.
__global__ void block_squares_f64(SquaresArgs args) {
  const int64_t block = ThreadOfGrid();
  if (block >= args.blocks) return;
  const SquaresTensor& x = TensorOf(
      args, LastFrom(args.count, block,
                     [&](int64_t i) { return TensorOf(args, i).first_block; }));
  const int64_t begin = (block - x.first_block) * kSquaresBlock;
  const int64_t elements = x.x.elements;
  const int64_t end =
      begin + kSquaresBlock < elements ? begin + kSquaresBlock : elements;
  double sum = 0;
  for (int64_t i = begin; i < end; ++i) {
    const double value = ValueOf(x, i);
    sum = sum + value * value;
  }
  args.of_block[block] = sum;
}

constexpr int kTreeThreads = 256;

// By a block: the sum by neighbours, 0 + 1, 2 + 3, .., an odd last passing up,
// which it overwrites `values` with. A round of pairs lies before what it
// reads.
__device__ inline void AddNeighbours(double* values, int64_t count,
                                     double* out) {
  for (; count > 1; count = (count + 1) / 2) {
    for (int64_t first = 0; first < (count + 1) / 2; first += kTreeThreads) {
      const int64_t i = first + threadIdx.x;
      double sum = 0;
      if (2 * i < count) sum = values[2 * i];
      if (2 * i + 1 < count) sum = sum + values[2 * i + 1];
      __syncthreads();
      if (2 * i < count) values[i] = sum;
      __syncthreads();
    }
  }
  if (threadIdx.x == 0) *out = count == 0 ? 0 : values[0];
}

__global__ void __launch_bounds__(kTreeThreads)
    tensor_squares_f64(SquaresArgs args) {
  const SquaresTensor& x = TensorOf(args, blockIdx.x);
  AddNeighbours(args.of_block + x.first_block, x.blocks,
                args.of_tensor + blockIdx.x);
}

__global__ void __launch_bounds__(kTreeThreads)
    all_squares_f64(SquaresArgs args) {
  AddNeighbours(args.of_tensor, args.count, args.out);
}

// Written so that a NaN is a fault.
__global__ void check_numbers_f64(const double* squares, double elements,
                                  double limit, uint32_t* fault) {
  const double size = __dsqrt_rn(*squares / elements);
  if (!(size <= limit)) SetFault(fault, DeviceFault::kNumbers);
}

__global__ void adamw_f32(AdamWArgs f) {
  const int64_t element = ThreadOfGrid();
  if (element >= f.elements) return;
  const AdamWSlice& slice = f.slices[LastFrom(
      f.count, element, [&](int64_t s) { return f.slices[s].first; })];
  const int64_t i = element - slice.first;
  const float grad = slice.grad[i] * f.grad_scale;
  const float m = Fma(f.beta1, slice.m[i], f.one_minus_beta1 * grad);
  const float v = Fma(f.beta2, slice.v[i], f.one_minus_beta2 * (grad * grad));
  const float decay = slice.decays ? f.decay : 0.0f;
  const float decayed = Fma(-decay, slice.p[i], slice.p[i]);
  slice.m[i] = m;
  slice.v[i] = v;
  slice.p[i] =
      decayed -
      f.step_size * m / Fma(__fsqrt_rn(v), f.inverse_sqrt_correction2, f.eps);
}

}  // namespace

void SumSquares(const SquaresArgs& args, Stream stream) {
  if (args.count > 0) {
    TEMPER_LAUNCH_THREADS(block_squares_f64, args.blocks, stream, args);
    TEMPER_LAUNCH(tensor_squares_f64, static_cast<unsigned>(args.count),
                  kTreeThreads, 0, stream, args);
  }
  TEMPER_LAUNCH(all_squares_f64, 1, kTreeThreads, 0, stream, args);
}

void CheckNumbers(const double* squares, double elements, double limit,
                  uint32_t* fault, Stream stream) {
  TEMPER_LAUNCH(check_numbers_f64, 1, 1, 0, stream, squares, elements, limit,
                fault);
}

void AdamW(const AdamWArgs& args, Stream stream) {
  TEMPER_LAUNCH_THREADS(adamw_f32, args.elements, stream, args);
}

}  // namespace temper::cuda
