#include "kernels/cuda/device_math.h"
#include "kernels/cuda/norm.h"

namespace temper::cuda {
namespace {

__device__ inline float InverseRoot(float x) { return 1.0f / __fsqrt_rn(x); }

__device__ inline Moments RmsMoments(const float* x, float eps, int64_t n) {
  return {0, InverseRoot(WarpDot(x, x, n) / static_cast<float>(n) + eps)};
}

__device__ inline Moments LayerMoments(const float* x, float eps, int64_t n) {
  const float count = static_cast<float>(n);
  const float mean = WarpSum(n, [&](int64_t i) { return x[i]; }) / count;
  const float squares = WarpReduce(n, [&](int64_t i, bool there, float sum) {
    const float d = there ? x[i] - mean : 0.0f;
    return Fma(d, d, sum);
  });
  return {mean, InverseRoot(squares / count + eps)};
}

__global__ void norm_f32(NormArgs args) {
  const int64_t row = ThreadOfGrid() / kWarp, n = args.x.columns;
  if (row >= args.x.rows) return;
  const float* x = args.x.data + row * args.x.stride;
  float* y = args.y.data + row * args.y.stride;
  if (args.b == nullptr) {
    const float inverse = RmsMoments(x, args.eps, n).inverse;
    for (int64_t i = LaneOf(); i < n; i += kWarp) {
      y[i] = x[i] * inverse * args.w[i];
    }
    return;
  }
  const Moments at = LayerMoments(x, args.eps, n);
  for (int64_t i = LaneOf(); i < n; i += kWarp) {
    y[i] = Fma((x[i] - at.mean) * at.inverse, args.w[i], args.b[i]);
  }
}

__global__ void norm_moments_f32(NormGrads args) {
  const int64_t row = ThreadOfGrid() / kWarp, n = args.x.columns;
  if (row >= args.x.rows) return;
  const float* x = args.x.data + row * args.x.stride;
  const Moments at = args.db == nullptr ? RmsMoments(x, args.eps, n)
                                        : LayerMoments(x, args.eps, n);
  if (LaneOf() == 0) args.moments[row] = at;
}

// Sums over the rows are chains, so a block of one warp has few columns where a
// tensor is narrow: its lanes read rows side by side into shared memory, and a
// lane a column goes down them.
__global__ void norm_weight_grad_f32(NormGrads args, int columns) {
  __shared__ float dy[kWarp], xhat[kWarp];
  const int lane = LaneOf(), rows = kWarp / columns;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * columns;
  const int64_t c = first + lane % columns;
  const bool sums = lane < columns && c < args.x.columns;
  float dw = sums ? args.dw[c] : 0.0f;
  float db = sums && args.db != nullptr ? args.db[c] : 0.0f;
  for (int64_t row = 0; row < args.x.rows; row += rows) {
    const int64_t n = row + lane / columns;
    if (n < args.x.rows && c < args.x.columns) {
      const Moments at = args.moments[n];
      dy[lane] = args.dy.data[n * args.dy.stride + c];
      xhat[lane] = (args.x.data[n * args.x.stride + c] - at.mean) * at.inverse;
    }
    __syncwarp();
    if (sums) {
      for (int i = 0; i < rows && row + i < args.x.rows; ++i) {
        const float grad = dy[i * columns + lane];
        dw = Fma(grad, xhat[i * columns + lane], dw);
        db = db + grad;
      }
    }
    __syncwarp();
  }
  if (!sums) return;
  args.dw[c] = dw;
  if (args.db != nullptr) args.db[c] = db;
}

// dx = r (g - xhat mean(g xhat)), g = w dy, xhat = x r.
__device__ inline void RmsRowGrad(const float* x, const float* w, float inverse,
                                  const float* dy, float* dx, int64_t n) {
  const float total = WarpReduce(n, [&](int64_t i, bool there, float sum) {
    const float a = there ? w[i] : 0.0f, b = there ? dy[i] : 0.0f;
    return Fma(a * b, there ? x[i] : 0.0f, sum);
  });
  const float mean = -(total * inverse) / static_cast<float>(n);
  for (int64_t i = LaneOf(); i < n; i += kWarp) {
    dx[i] = Fma(x[i] * inverse, mean, w[i] * dy[i]) * inverse;
  }
}

// dx = r (g - mean(g) - xhat mean(g xhat)), xhat = (x - mean) r.
__device__ inline void LayerRowGrad(const float* x, const float* w, Moments at,
                                    const float* dy, float* dx, int64_t n) {
  const float count = static_cast<float>(n);
  const float total = WarpReduce(n, [&](int64_t i, bool there, float sum) {
    const float a = there ? w[i] : 0.0f, b = there ? dy[i] : 0.0f;
    return sum + a * b;
  });
  const float product = WarpReduce(n, [&](int64_t i, bool there, float sum) {
    const float a = there ? w[i] : 0.0f, b = there ? dy[i] : 0.0f;
    const float c = there ? x[i] : 0.0f;
    return Fma(a * b, (c - at.mean) * at.inverse, sum);
  });
  const float mean_g = total / count, mean_product = -(product / count);
  for (int64_t i = LaneOf(); i < n; i += kWarp) {
    const float centred = w[i] * dy[i] - mean_g;
    dx[i] =
        Fma((x[i] - at.mean) * at.inverse, mean_product, centred) * at.inverse;
  }
}

// The sums are all lanes' before an element of dx, which may be dy, is written.
__global__ void norm_input_grad_f32(NormGrads args) {
  const int64_t row = ThreadOfGrid() / kWarp, n = args.x.columns;
  if (row >= args.x.rows) return;
  const float* x = args.x.data + row * args.x.stride;
  const float* dy = args.dy.data + row * args.dy.stride;
  float* dx = args.dx.data + row * args.dx.stride;
  const Moments at = args.moments[row];
  if (args.db == nullptr) {
    RmsRowGrad(x, args.w, at.inverse, dy, dx, n);
  } else {
    LayerRowGrad(x, args.w, at, dy, dx, n);
  }
}

}  // namespace

void Norm(const NormArgs& args, Stream stream) {
  TEMPER_LAUNCH_WARPS(norm_f32, args.x.rows, stream, args);
}

void NormBackward(const NormGrads& args, Stream stream) {
  if (args.x.rows == 0 || args.x.columns == 0) return;
  TEMPER_LAUNCH_WARPS(norm_moments_f32, args.x.rows, stream, args);
  int columns = kWarp;
  while (columns > 1 && CeilDiv(args.x.columns, columns) < kMultiprocessors) {
    columns /= 2;
  }
  TEMPER_LAUNCH(norm_weight_grad_f32, BlocksFor(args.x.columns, columns), kWarp,
                0, stream, args, columns);
  TEMPER_LAUNCH_WARPS(norm_input_grad_f32, args.x.rows, stream, args);
}

}  // namespace temper::cuda
