// The kernels that take everything: a block of threads has a query and 16
// heads, and goes through its keys, 64 at a time.

#include "kernels/cuda/device_math.h"
#include "kernels/cuda/key_tile.h"
#include "kernels/cuda/narrow/attention.h"
#include "kernels/cuda/narrow/mma_dots.h"
#include "kernels/cuda/softmax_block.h"

namespace temper::cuda {
namespace {

// z = z c + e . k of a block of keys; on the first block z is zero. A warp has
// eight columns in 32.
__device__ inline void AddValues(const NarrowMla& x, int64_t n, int64_t head,
                                 int heads, const int32_t (&rows)[kKeyBlock],
                                 int count, bool first,
                                 const Softmax<kMmaHeads>& run,
                                 const float (&e)[kMmaHeads][kKeyBlock]) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  uint32_t a[kKeyBlock / 16][4];
  RoundedPlaces(&e[0][0], kKeyBlock, heads, count, a);
  for (int64_t c = warp * 8; c < x.z.columns; c += kMmaWarps * 8) {
    const int64_t at = c + LaneOf() % 4 * 2;
    float* const z = x.z.data + n * x.z.stride + head * x.z.group_stride + at;
    float sum[4];
    TEMPER_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int h = LaneOf() / 4 + i / 2 * 8;
      const bool there = !first && h < heads && at + i % 2 < x.z.columns;
      sum[i] = there ? z[h * x.z.group_stride + i % 2] * run.kept[h] : 0.0f;
    }
    MmaValues(a, x.keys, c, x.z.columns, rows, count, sum);
    TEMPER_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int h = LaneOf() / 4 + i / 2 * 8;
      if (h < heads && at + i % 2 < x.z.columns) {
        z[h * x.z.group_stride + i % 2] = sum[i];
      }
    }
  }
}

__global__ void __launch_bounds__(kMmaThreads) sparse_mla_bf16(NarrowMla x) {
  __shared__ float scores[kMmaHeads][kKeyBlock];
  __shared__ Softmax<kMmaHeads> run;
  __shared__ int32_t rows[kKeyBlock];
  __shared__ int leading[2];
  const int64_t n = blockIdx.x;
  const int64_t head = static_cast<int64_t>(blockIdx.y) * kMmaHeads;
  const int heads = MmaHeadsFrom(head, x.q.groups);
  const int t = static_cast<int>(threadIdx.x), warp = t / kWarp;
  if (t < kMmaHeads) {
    run.largest[t] = NegativeInfinity();
    run.sum[t] = 0;
    run.kept[t] = 0;
  }
  const Heads q = {x.q.data + n * x.q.stride + head * x.q.group_stride,
                   x.q.group_stride, x.q.columns};
  const int32_t* const list = x.selected.data + n * x.selected.stride;
  const int64_t limit = x.selected.columns;
  int64_t total = 0;
  for (int64_t first = 0; first < limit; first += kKeyBlock) {
    const int count =
        SelectedRows(x.map, n, list + first, limit - first, rows, leading);
    if (count == 0) break;
    MmaDots(q, heads, x.keys, rows, count, scores);
    __syncthreads();
    for (int h = warp; h < heads; h += kMmaWarps) {
      SoftmaxBlock(x.scale, scores[h], count, h, &run);
    }
    __syncthreads();
    AddValues(x, n, head, heads, rows, count, first == 0, run, scores);
    __syncthreads();  // rows and scores are read no more
    total += count;
    if (count < kKeyBlock) break;
  }
  for (int64_t c = t; c < x.z.columns; c += kMmaThreads) {
    for (int h = 0; h < heads; ++h) {
      float* z = x.z.data + n * x.z.stride + (head + h) * x.z.group_stride + c;
      *z = total == 0 ? 0.0f : *z / run.sum[h];
    }
  }
  if (t < heads) {
    x.lse.data[n * x.lse.stride + head + t] =
        total == 0 ? NegativeInfinity() : LogSumExp(run.largest[t], run.sum[t]);
  }
}

// A block of threads: a query and 64 of its keys. A key's score is one chain
// over ascending heads.
__global__ void __launch_bounds__(kMmaThreads)
    index_scores_bf16(NarrowScores x) {
  __shared__ float dots[kMmaHeads][kKeyBlock];
  __shared__ int32_t rows[kKeyBlock];
  const int64_t n = x.first + blockIdx.x;
  const int64_t first = static_cast<int64_t>(blockIdx.y) * kKeyBlock;
  const int64_t all = static_cast<int64_t>(x.map.position[n]) + 1;
  const int64_t seen = all < x.scores.columns ? all : x.scores.columns;
  if (first >= seen || (!x.tap && all <= x.top_k)) return;
  const int count =
      seen - first < kKeyBlock ? static_cast<int>(seen - first) : kKeyBlock;
  const int t = static_cast<int>(threadIdx.x);
  if (t < count) rows[t] = RowOfKey(x.map, n, first + t);
  __syncthreads();
  float score = 0;
  for (int64_t head = 0; head < x.q.groups; head += kMmaHeads) {
    const int heads = MmaHeadsFrom(head, x.q.groups);
    MmaDots({x.q.data + n * x.q.stride + head * x.q.group_stride,
             x.q.group_stride, x.q.columns},
            heads, x.keys, rows, count, dots);
    __syncthreads();
    if (t < count) {
      const float* const w = x.w.data + n * x.w.stride + head;
      for (int h = 0; h < heads; ++h) {
        score = Fma(w[h], Max(dots[h][t], 0.0f), score);
      }
    }
    __syncthreads();
  }
  if (t < count) {
    x.scores.data[blockIdx.x * x.scores.stride + first + t] = score;
  }
}

}  // namespace

void PlainMla(const NarrowMla& args, Stream stream) {
  if (args.q.rows == 0) return;
  const dim3 grid(static_cast<unsigned>(args.q.rows),
                  BlocksFor(args.q.groups, kMmaHeads));
  TEMPER_LAUNCH(sparse_mla_bf16, grid, kMmaThreads, 0, stream, args);
}

void SparseMla(const NarrowMla& args, Stream stream) {
  if (args.q.groups < kMmaHeads || !WideMla(args, stream)) {
    PlainMla(args, stream);
  }
}

void PlainScores(const NarrowScores& args, Stream stream) {
  if (args.queries == 0 || args.scores.columns == 0) return;
  const dim3 grid(static_cast<unsigned>(args.queries),
                  BlocksFor(args.scores.columns, kKeyBlock));
  TEMPER_LAUNCH(index_scores_bf16, grid, kMmaThreads, 0, stream, args);
}

void IndexScores(const NarrowScores& args, Stream stream) {
  if (args.q.groups < kMmaHeads || !WideScores(args, stream)) {
    PlainScores(args, stream);
  }
}

}  // namespace temper::cuda
