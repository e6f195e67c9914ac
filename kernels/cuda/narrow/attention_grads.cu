#include "kernels/cuda/device_math.h"
#include "kernels/cuda/key_tile.h"
#include "kernels/cuda/narrow/attention_grads.h"
#include "kernels/cuda/narrow/mma_dots.h"

namespace temper::cuda {
namespace {

__device__ inline Heads HeadsOf(const GroupedRows<const float>& x, int64_t n,
                                int64_t head) {
  return {x.data + n * x.stride + head * x.group_stride, x.group_stride,
          x.columns};
}

// A block of threads takes a query and 16 heads.
__global__ void __launch_bounds__(kMmaThreads)
    mla_score_grads_bf16(MlaGrads x, Rows<const uint16_t> keys,
                         KeyRecords records) {
  __shared__ float scores[kMmaHeads][kKeyBlock];
  __shared__ float dots[kMmaHeads][kKeyBlock];
  __shared__ float delta[kMmaHeads];
  __shared__ int32_t rows[kKeyBlock];
  const int64_t i = blockIdx.x, n = records.first + i;
  const int64_t head = static_cast<int64_t>(blockIdx.y) * kMmaHeads;
  const int heads = MmaHeadsFrom(head, x.q.groups);
  const int t = static_cast<int>(threadIdx.x), warp = t / kWarp;
  const Heads q = HeadsOf(x.q, n, head), dz = HeadsOf(x.dz, n, head);
  for (int h = warp; h < heads; h += kMmaWarps) {
    const float dot =
        WarpDot(x.z.data + n * x.z.stride + (head + h) * x.z.group_stride,
                dz.data + h * dz.stride, dz.dims);
    if (LaneOf() == 0) delta[h] = dot;
  }
  const int64_t total = records.count[i];
  for (int64_t first = 0; first < total; first += kKeyBlock) {
    const int count =
        total - first < kKeyBlock ? static_cast<int>(total - first) : kKeyBlock;
    if (t < count) rows[t] = records.rows[i * records.width + first + t];
    __syncthreads();
    MmaDots(q, heads, keys, rows, count, scores);
    MmaDots(dz, heads, keys, rows, count, dots);
    __syncthreads();
    for (int at = t; at < heads * kKeyBlock; at += kMmaThreads) {
      const int h = at / kKeyBlock, j = at % kKeyBlock;
      if (j >= count) continue;
      const float lse = x.lse.data[n * x.lse.stride + head + h];
      const float p = Exp(scores[h][j] * x.scale - lse);
      const int64_t to =
          (i * records.heads + head + h) * records.width + first + j;
      records.p[to] = p;
      records.ds[to] = p * (dots[h][j] - delta[h]) * x.scale;
    }
    __syncthreads();
  }
}

// A warp eight columns of a query, for 16 heads.
__global__ void __launch_bounds__(kMmaThreads)
    sum_keys_bf16(KeyRecords records, Rows<const uint16_t> keys,
                  GroupedRows<float> out) {
  const int64_t i = blockIdx.x;
  const int64_t head = static_cast<int64_t>(blockIdx.y) * kMmaHeads;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int64_t c = (static_cast<int64_t>(blockIdx.z) * kMmaWarps + warp) * 8;
  if (c >= out.columns) return;
  const int heads = MmaHeadsFrom(head, out.groups);
  const int32_t* const rows = records.rows + i * records.width;
  const float* const ds =
      records.ds + (i * records.heads + head) * records.width;
  const int64_t total = records.count[i];
  float sum[4] = {};
  for (int64_t first = 0; first < total; first += kKeyBlock) {
    const int count =
        total - first < kKeyBlock ? static_cast<int>(total - first) : kKeyBlock;
    uint32_t a[kKeyBlock / 16][4];
    RoundedPlaces(ds + first, records.width, heads, count, a);
    MmaValues(a, keys, c, out.columns, rows + first, count, sum);
  }
  const int64_t at = c + LaneOf() % 4 * 2;
  float* const to = out.data + (records.first + i) * out.stride +
                    head * out.group_stride + at;
  TEMPER_UNROLL
  for (int j = 0; j < 4; ++j) {
    const int h = LaneOf() / 4 + j / 2 * 8;
    if (h < heads && at + j % 2 < out.columns) {
      to[h * out.group_stride + j % 2] = sum[j];
    }
  }
}

__device__ inline float RoundedToBf16(float x) {
  return FloatFromBf16(Bf16FromFloat(x));
}

// What head h adds to a chain; one that is not there a zero.
__device__ inline float AddHead(const float* a, int64_t a_stride,
                                const float* b, int64_t b_stride, int64_t h,
                                int64_t heads, float sum) {
  if (h >= heads) return Fma(0, 0, sum);
  return Fma(RoundedToBf16(a[h * a_stride]), RoundedToBf16(b[h * b_stride]),
             sum);
}

// sum over heads of a[h] b[h], from zero, rounded: in a block of 32, whose
// padding counts, one chain over even heads and one over odd.
__device__ inline float OverRoundedHeads(const float* a, int64_t a_stride,
                                         const float* b, int64_t b_stride,
                                         int64_t heads) {
  float sum = 0;
  for (int64_t block = 0; block < heads; block += kWarp) {
    float even = 0, odd = 0;
    for (int64_t h = block; h < block + kWarp; h += 2) {
      even = AddHead(a, a_stride, b, b_stride, h, heads, even);
      odd = AddHead(a, a_stride, b, b_stride, h + 1, heads, odd);
    }
    sum = sum + (even + odd);
  }
  return sum;
}

// A thread an element of dkeys, a warp of them a row's: queries in order, those
// that did not select the row passed over.
__global__ void add_to_keys_bf16(KeyGradient x) {
  const KeyRecords& r = x.records;
  const int64_t row =
      static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  const int64_t c = static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x;
  if (row >= x.dkeys.rows || c >= x.dkeys.columns) return;
  float* const to = x.dkeys.data + row * x.dkeys.stride + c;
  float sum = *to;
  for (int64_t i = 0; i < r.queries; ++i) {
    const int32_t j = r.place[i * x.dkeys.rows + row];
    if (j < 0) continue;
    const int64_t at = i * r.heads * r.width + j, n = r.first + i;
    sum = sum + OverRoundedHeads(r.ds + at, r.width,
                                 x.b.data + n * x.b.stride + c,
                                 x.b.group_stride, r.heads);
    if (r.p == nullptr || c >= x.d.columns) continue;
    sum =
        sum + OverRoundedHeads(r.p + at, r.width, x.d.data + n * x.d.stride + c,
                               x.d.group_stride, r.heads);
  }
  *to = sum;
}

// A block of threads: a query and 64 of its selected keys. A thread of the
// first 64 has a key's sums over the heads.
__global__ void __launch_bounds__(kMmaThreads)
    kl_scores_bf16(KlArgs x, Rows<const uint16_t> keys,
                   Rows<const uint16_t> index_keys) {
  __shared__ float dots[kMmaHeads][kKeyBlock];
  __shared__ int32_t rows[kKeyBlock];
  const int64_t i = blockIdx.x, n = x.records.first + i;
  const int64_t first = static_cast<int64_t>(blockIdx.y) * kKeyBlock;
  const int64_t left = x.records.count[i] - first;
  if (left <= 0) return;
  const int count = left < kKeyBlock ? static_cast<int>(left) : kKeyBlock;
  const int t = static_cast<int>(threadIdx.x);
  const int64_t width = x.records.width, at = i * width + first;
  if (t < count) rows[t] = x.records.rows[at + t];
  __syncthreads();
  float target = 0, score = 0;
  for (int64_t head = 0; head < x.q.groups; head += kMmaHeads) {
    const int heads = MmaHeadsFrom(head, x.q.groups);
    MmaDots(HeadsOf(x.q, n, head), heads, keys, rows, count, dots);
    __syncthreads();
    const float* const lse = x.lse.data + n * x.lse.stride + head;
    for (int h = 0; t < count && h < heads; ++h) {
      target = target + Exp(dots[h][t] * x.scale - lse[h]);
    }
    __syncthreads();
  }
  for (int64_t head = 0; head < x.index_q.groups; head += kMmaHeads) {
    const int heads = MmaHeadsFrom(head, x.index_q.groups);
    MmaDots(HeadsOf(x.index_q, n, head), heads, index_keys, rows, count, dots);
    __syncthreads();
    const float* const w = x.index_w.data + n * x.index_w.stride + head;
    for (int h = 0; t < count && h < heads; ++h) {
      score = Fma(w[h], Max(dots[h][t], 0.0f), score);
      if (x.products == nullptr) continue;
      x.products[(i * x.index_q.groups + head + h) * width + first + t] =
          dots[h][t];
    }
    __syncthreads();
  }
  if (t >= count) return;
  x.target[at + t] = target * (1.0f / static_cast<float>(x.q.groups));
  x.score[at + t] = score;
}

}  // namespace

void MlaScoreGrads(const MlaGrads& args, const Rows<const uint16_t>& keys,
                   const KeyRecords& records, Stream stream) {
  if (records.queries == 0) return;
  const dim3 grid(static_cast<unsigned>(records.queries),
                  BlocksFor(records.heads, kMmaHeads));
  TEMPER_LAUNCH(mla_score_grads_bf16, grid, kMmaThreads, 0, stream, args, keys,
                records);
}

void SumKeys(const KeyRecords& records, const Rows<const uint16_t>& keys,
             const GroupedRows<float>& out, Stream stream) {
  if (records.queries == 0 || out.columns == 0) return;
  const dim3 grid(static_cast<unsigned>(records.queries),
                  BlocksFor(out.groups, kMmaHeads),
                  BlocksFor(out.columns, kMmaWarps * 8));
  TEMPER_LAUNCH(sum_keys_bf16, grid, kMmaThreads, 0, stream, records, keys,
                out);
}

void AddRoundedToKeys(const KeyGradient& args, Stream stream) {
  if (args.records.queries == 0) return;
  constexpr unsigned kAcross = 32, kRows = 4;
  const dim3 grid(BlocksFor(args.dkeys.rows, kRows),
                  BlocksFor(args.dkeys.columns, kAcross));
  TEMPER_LAUNCH(add_to_keys_bf16, grid, dim3(kAcross, kRows), 0, stream, args);
}

void KlScores(const KlArgs& args, const Rows<const uint16_t>& keys,
              const Rows<const uint16_t>& index_keys, Stream stream) {
  if (args.records.queries == 0 || args.records.width == 0) return;
  const dim3 grid(static_cast<unsigned>(args.records.queries),
                  BlocksFor(args.records.width, kKeyBlock));
  TEMPER_LAUNCH(kl_scores_bf16, grid, kMmaThreads, 0, stream, args, keys,
                index_keys);
}

}  // namespace temper::cuda
