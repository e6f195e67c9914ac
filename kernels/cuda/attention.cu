#include "kernels/cuda/attention.h"
#include "kernels/cuda/device_math.h"
#include "kernels/cuda/key_tile.h"
#include "kernels/cuda/softmax_block.h"

namespace temper::cuda {
namespace {

// z = z c + e . k of a block of keys, for a thread's columns; on the first
// block there is no z yet.
__device__ inline void AddValues(const MlaForward& x, int64_t n, int64_t head,
                                 int heads, const int32_t (&rows)[kKeyBlock],
                                 int count, bool first,
                                 const Softmax<kHeadBlock>& run,
                                 const float (&e)[kHeadBlock][kKeyBlock]) {
  for (int64_t c = threadIdx.x; c < x.z.columns; c += kKeyThreads) {
    float* z = x.z.data + n * x.z.stride + head * x.z.group_stride + c;
    float sum[kHeadBlock];
    for (int h = 0; h < kHeadBlock; ++h) {
      sum[h] = 0;
      if (first || h >= heads) continue;
      sum[h] = z[h * x.z.group_stride];
      if (run.kept[h] != 1) sum[h] = sum[h] * run.kept[h];
    }
    for (int j = 0; j < count; ++j) {
      const float key = x.keys.data[rows[j] * x.keys.stride + c];
      for (int h = 0; h < kHeadBlock; ++h) sum[h] = Fma(e[h][j], key, sum[h]);
    }
    for (int h = 0; h < heads; ++h) z[h * x.z.group_stride] = sum[h];
  }
}

// A block of threads takes a query and a few heads through all its keys.
__global__ void __launch_bounds__(kKeyThreads, 2) sparse_mla_f32(MlaForward x) {
  __shared__ KeyTile tile;
  __shared__ float scores[kHeadBlock][kKeyBlock];
  __shared__ Softmax<kHeadBlock> run;
  __shared__ int32_t rows[kKeyBlock];
  __shared__ int leading[2];
  const int64_t n = blockIdx.x;
  const int64_t head = static_cast<int64_t>(blockIdx.y) * kHeadBlock;
  const int64_t left = x.q.groups - head;
  const int heads = left < kHeadBlock ? static_cast<int>(left) : kHeadBlock;
  const int t = static_cast<int>(threadIdx.x), warp = t / kWarp;
  if (t < kHeadBlock) {
    run.largest[t] = NegativeInfinity();
    run.sum[t] = 0;
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
    float sum[2];
    HeadDots(q, heads, x.keys, rows, count, &tile, sum);
    scores[HeadOfThread(0)][KeyOfThread()] = sum[0];
    scores[HeadOfThread(1)][KeyOfThread()] = sum[1];
    __syncthreads();
    if (warp < heads) SoftmaxBlock(x.scale, scores[warp], count, warp, &run);
    __syncthreads();
    AddValues(x, n, head, heads, rows, count, first == 0, run, scores);
    __syncthreads();  // rows and scores are read no more
    total += count;
    if (count < kKeyBlock) break;
  }
  for (int64_t c = t; c < x.z.columns; c += kKeyThreads) {
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

// --- Backward ----------------------------------------------------------------

__global__ void fill_place_i32(int32_t* place, int64_t count) {
  const int64_t i = ThreadOfGrid();
  if (i < count) place[i] = -1;
}

// A warp a query.
__global__ void key_records_i32(Keys map, Rows<const int32_t> selected,
                                KeyRecords x) {
  const int64_t i = ThreadOfGrid() / kWarp;
  if (i >= x.queries) return;
  const int64_t n = x.first + i;
  const int32_t* const list = selected.data + n * selected.stride;
  int32_t* const rows = x.rows + i * x.width;
  int64_t total = 0;
  for (int64_t first = 0; first < selected.columns; first += kWarp) {
    const int64_t j = first + LaneOf();
    const int32_t at = j < selected.columns ? list[j] : -1;
    const int count = LeadingLanes(at >= 0);
    if (LaneOf() < count) {
      rows[j] = RowOfKey(map, n, at);
      if (x.place != nullptr) {
        x.place[i * map.rows + rows[j]] = static_cast<int32_t>(j);
      }
    }
    total += count;
    if (count < kWarp) break;
  }
  if (LaneOf() == 0) x.count[i] = static_cast<int32_t>(total);
}

// A block of threads takes a query and a few heads.
__global__ void __launch_bounds__(kKeyThreads, 2)
    mla_score_grads_f32(MlaGrads x, KeyRecords records) {
  __shared__ KeyTile tile;
  __shared__ float delta[kHeadBlock];
  __shared__ int32_t rows[kKeyBlock];
  const int64_t i = blockIdx.x, n = records.first + i;
  const int64_t head = static_cast<int64_t>(blockIdx.y) * kHeadBlock;
  const int64_t left = x.q.groups - head;
  const int heads = left < kHeadBlock ? static_cast<int>(left) : kHeadBlock;
  const int t = static_cast<int>(threadIdx.x), warp = t / kWarp;
  const Heads q = {x.q.data + n * x.q.stride + head * x.q.group_stride,
                   x.q.group_stride, x.q.columns};
  const Heads dz = {x.dz.data + n * x.dz.stride + head * x.dz.group_stride,
                    x.dz.group_stride, x.dz.columns};
  if (warp < heads) {
    const float dot =
        WarpDot(x.z.data + n * x.z.stride + (head + warp) * x.z.group_stride,
                dz.data + warp * dz.stride, dz.dims);
    if (LaneOf() == 0) delta[warp] = dot;
  }
  const int64_t total = records.count[i];
  for (int64_t first = 0; first < total; first += kKeyBlock) {
    const int count =
        total - first < kKeyBlock ? static_cast<int>(total - first) : kKeyBlock;
    if (t < count) rows[t] = records.rows[i * records.width + first + t];
    __syncthreads();
    float s[2], dp[2];
    HeadDots(q, heads, x.keys, rows, count, &tile, s, dz, &dp);
    const int j = KeyOfThread();
    for (int which = 0; which < 2; ++which) {
      const int h = HeadOfThread(which);
      if (h >= heads || j >= count) continue;
      const float lse = x.lse.data[n * x.lse.stride + head + h];
      const float p = Exp(s[which] * x.scale - lse);
      const int64_t at =
          (i * records.heads + head + h) * records.width + first + j;
      records.p[at] = p;
      records.ds[at] = p * (dp[which] - delta[h]) * x.scale;
    }
    __syncthreads();
  }
}

constexpr int kSumHeads = 8;

// A thread a column, for a few heads of a query.
__global__ void sum_keys_f32(KeyRecords records, Rows<const float> keys,
                             GroupedRows<float> out) {
  const int64_t i = blockIdx.x;
  const int64_t head = static_cast<int64_t>(blockIdx.y) * kSumHeads;
  const int64_t c = static_cast<int64_t>(blockIdx.z) * blockDim.x + threadIdx.x;
  if (c >= out.columns) return;
  const int32_t* const rows = records.rows + i * records.width;
  const float* const ds =
      records.ds + (i * records.heads + head) * records.width;
  const int64_t count = records.count[i];
  const int64_t heads = out.groups - head;
  float sum[kSumHeads] = {};
  for (int64_t j = 0; j < count; ++j) {
    const float key = keys.data[rows[j] * keys.stride + c];
    for (int h = 0; h < kSumHeads; ++h) {
      if (h < heads) sum[h] = Fma(ds[h * records.width + j], key, sum[h]);
    }
  }
  float* const to =
      out.data + (records.first + i) * out.stride + head * out.group_stride + c;
  for (int h = 0; h < kSumHeads; ++h) {
    if (h < heads) to[h * out.group_stride] = sum[h];
  }
}

// sum over heads of a[h] b[h], from zero.
__device__ inline float OverHeads(const float* a, int64_t a_stride,
                                  const float* b, int64_t b_stride,
                                  int64_t heads) {
  float sum = 0;
  for (int64_t h = 0; h < heads; ++h) {
    sum = Fma(a[h * a_stride], b[h * b_stride], sum);
  }
  return sum;
}

// A thread an element of dkeys, a warp of them a row's: queries in order, those
// that did not select the row passed over.
__global__ void add_to_keys_f32(KeyGradient x) {
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
    sum = sum + OverHeads(r.ds + at, r.width, x.b.data + n * x.b.stride + c,
                          x.b.group_stride, r.heads);
    if (r.p == nullptr || c >= x.d.columns) continue;
    sum = sum + OverHeads(r.p + at, r.width, x.d.data + n * x.d.stride + c,
                          x.d.group_stride, r.heads);
  }
  *to = sum;
}

}  // namespace

void SparseMla(const MlaForward& args, Stream stream) {
  if (args.q.rows == 0) return;
  const dim3 grid(static_cast<unsigned>(args.q.rows),
                  BlocksFor(args.q.groups, kHeadBlock));
  TEMPER_LAUNCH(sparse_mla_f32, grid, kKeyThreads, 0, stream, args);
}

void FillKeyRecords(const Keys& map, const Rows<const int32_t>& selected,
                    const KeyRecords& records, Stream stream) {
  const int64_t places =
      records.place == nullptr ? 0 : records.queries * map.rows;
  TEMPER_LAUNCH_THREADS(fill_place_i32, places, stream, records.place, places);
  TEMPER_LAUNCH_WARPS(key_records_i32, records.queries, stream, map, selected,
                      records);
}

void MlaScoreGrads(const MlaGrads& args, const KeyRecords& records,
                   Stream stream) {
  if (records.queries == 0) return;
  const dim3 grid(static_cast<unsigned>(records.queries),
                  BlocksFor(records.heads, kHeadBlock));
  TEMPER_LAUNCH(mla_score_grads_f32, grid, kKeyThreads, 0, stream, args,
                records);
}

void SumKeys(const KeyRecords& records, const Rows<const float>& keys,
             const GroupedRows<float>& out, Stream stream) {
  if (records.queries == 0 || out.columns == 0) return;
  constexpr unsigned kThreads = 64;
  const dim3 grid(static_cast<unsigned>(records.queries),
                  BlocksFor(out.groups, kSumHeads),
                  BlocksFor(out.columns, kThreads));
  TEMPER_LAUNCH(sum_keys_f32, grid, kThreads, 0, stream, records, keys, out);
}

void AddToKeys(const KeyGradient& args, Stream stream) {
  if (args.records.queries == 0) return;
  constexpr unsigned kAcross = 32, kRows = 4;
  const dim3 grid(BlocksFor(args.dkeys.rows, kRows),
                  BlocksFor(args.dkeys.columns, kAcross));
  TEMPER_LAUNCH(add_to_keys_f32, grid, dim3(kAcross, kRows), 0, stream, args);
}

}  // namespace temper::cuda
