#include "kernels/cuda/block_scan.h"
#include "kernels/cuda/device_math.h"
#include "kernels/cuda/indexer.h"
#include "kernels/cuda/key_tile.h"

namespace temper::cuda {
namespace {

// Adds a block of heads' share to the score of a thread's key: products lie in
// `dots`, one chain over ascending heads.
__device__ inline float AddHeads(const float (&dots)[kHeadBlock][kKeyBlock],
                                 const float* w, int heads, int j,
                                 float score) {
  for (int h = 0; h < heads; ++h) {
    score = Fma(w[h], Max(dots[h][j], 0.0f), score);
  }
  return score;
}

__device__ inline int HeadsFrom(int64_t head, int64_t all) {
  return all - head < kHeadBlock ? static_cast<int>(all - head) : kHeadBlock;
}

// A block of threads: a query and 64 of its keys.
__global__ void __launch_bounds__(kKeyThreads, 2)
    index_scores_f32(SelectArgs x) {
  __shared__ KeyTile tile;
  __shared__ float dots[kHeadBlock][kKeyBlock];
  __shared__ int32_t rows[kKeyBlock];
  const int64_t n = x.first + blockIdx.x;
  const int64_t first = static_cast<int64_t>(blockIdx.y) * kKeyBlock;
  const int64_t all = static_cast<int64_t>(x.map.position[n]) + 1;
  const int64_t seen = all < x.scores.columns ? all : x.scores.columns;
  if (first >= seen || (!x.tap && all <= x.selected.columns)) return;
  const int count =
      seen - first < kKeyBlock ? static_cast<int>(seen - first) : kKeyBlock;
  const int t = static_cast<int>(threadIdx.x);
  if (t < count) rows[t] = RowOfKey(x.map, n, first + t);
  __syncthreads();
  float score = 0;
  for (int64_t head = 0; head < x.q.groups; head += kHeadBlock) {
    const int heads = HeadsFrom(head, x.q.groups);
    float sum[2];
    HeadDots({x.q.data + n * x.q.stride + head * x.q.group_stride,
              x.q.group_stride, x.q.columns},
             heads, x.keys, rows, count, &tile, sum);
    dots[HeadOfThread(0)][KeyOfThread()] = sum[0];
    dots[HeadOfThread(1)][KeyOfThread()] = sum[1];
    __syncthreads();
    if (t < count) {
      score = AddHeads(dots, x.w.data + n * x.w.stride + head, heads, t, score);
    }
    __syncthreads();
  }
  if (t < count) {
    x.scores.data[blockIdx.x * x.scores.stride + first + t] = score;
  }
}

constexpr int kDigits = 256;  // of 8 bits

// The 8 bits of the k-th largest among keys that begin with `prefix`, whose
// counts by their next 8 bits are given; *left: which of those it is.
__device__ inline int DigitOf(const int (&counts)[kDigits], int* left) {
  int digit = kDigits - 1;
  for (; digit > 0 && counts[digit] < *left; --digit) *left -= counts[digit];
  return digit;
}

// A block of threads a query: the threshold, 8 bits at a time, then its
// positions in order.
__global__ void __launch_bounds__(kKeyThreads, 2) top_k_f32(SelectArgs x) {
  __shared__ int counts[kDigits];
  __shared__ uint32_t shared_prefix;
  __shared__ int shared_left;
  __shared__ ScanRoom<kKeyThreads> room;
  static_assert(kKeyThreads == kDigits);
  const int t = static_cast<int>(threadIdx.x);
  const int64_t n = x.first + blockIdx.x, k = x.selected.columns;
  float* const scores = x.scores.data + blockIdx.x * x.scores.stride;
  int32_t* const out = x.selected.data + n * x.selected.stride;
  int64_t seen = static_cast<int64_t>(x.map.position[n]) + 1;
  if (x.tap || seen > k) {
    if (seen > x.scores.columns) {
      if (t == 0) SetFault(x.map.fault, DeviceFault::kRow);
      seen = x.scores.columns;
    }
  }
  if (x.tap) {
    for (int64_t j = seen + t; j < x.scores.columns; j += kKeyThreads) {
      scores[j] = NegativeInfinity();
    }
  }
  if (seen <= k) {
    for (int64_t j = t; j < k; j += kKeyThreads) {
      out[j] = j < seen ? static_cast<int32_t>(j) : -1;
    }
    return;
  }
  if (k == 0) return;
  uint32_t prefix = 0;
  int left = static_cast<int>(k);
  for (int shift = 24; shift >= 0; shift -= 8) {
    counts[t] = 0;
    __syncthreads();
    for (int64_t j = t; j < seen; j += kKeyThreads) {
      const uint32_t key = OrderedBits(scores[j]);
      const bool among = shift == 24 || (key ^ prefix) >> (shift + 8) == 0;
      if (among) atomicAdd(&counts[key >> shift & 0xFFu], 1);
    }
    __syncthreads();
    if (t == 0) {
      const int digit = DigitOf(counts, &left);
      shared_prefix = prefix | static_cast<uint32_t>(digit) << shift;
      shared_left = left;
    }
    __syncthreads();
    prefix = shared_prefix;
    left = shared_left;
  }
  // `left` of those equal to the threshold are taken, the lowest.
  int ties = 0, found = 0;
  for (int64_t first = 0; first < seen && found < k; first += kKeyThreads) {
    const int64_t j = first + t;
    const uint32_t key = j < seen ? OrderedBits(scores[j]) : 0;
    const bool equal = j < seen && key == prefix;
    int more_ties = 0, more = 0;
    const int tie = ties + CountBefore(equal, &room, &more_ties);
    const bool takes = j < seen && (key > prefix || (equal && tie < left));
    const int place = found + CountBefore(takes, &room, &more);
    if (takes) out[place] = static_cast<int32_t>(j);
    ties += more_ties;
    found += more;
  }
}

// --- The KL loss -------------------------------------------------------------

// A block of threads: a query and 64 of its selected keys.
__global__ void __launch_bounds__(kKeyThreads, 2) kl_scores_f32(KlArgs x) {
  __shared__ KeyTile tile;
  __shared__ float dots[kHeadBlock][kKeyBlock];
  __shared__ int32_t rows[kKeyBlock];
  const int64_t i = blockIdx.x, n = x.records.first + i;
  const int64_t first = static_cast<int64_t>(blockIdx.y) * kKeyBlock;
  const int64_t left = x.records.count[i] - first;
  if (left <= 0) return;
  const int count = left < kKeyBlock ? static_cast<int>(left) : kKeyBlock;
  const int t = static_cast<int>(threadIdx.x), j = KeyOfThread();
  const int64_t width = x.records.width, at = i * width + first;
  if (t < count) rows[t] = x.records.rows[at + t];
  __syncthreads();
  float target = 0, score = 0, sum[2];
  for (int64_t head = 0; head < x.q.groups; head += kHeadBlock) {
    const int heads = HeadsFrom(head, x.q.groups);
    HeadDots({x.q.data + n * x.q.stride + head * x.q.group_stride,
              x.q.group_stride, x.q.columns},
             heads, x.keys, rows, count, &tile, sum);
    for (int which = 0; which < 2; ++which) {
      const int h = HeadOfThread(which);
      if (h >= heads) continue;
      const float lse = x.lse.data[n * x.lse.stride + head + h];
      dots[h][j] = Exp(sum[which] * x.scale - lse);
    }
    __syncthreads();
    for (int h = 0; h < heads; ++h) target = target + dots[h][j];
    __syncthreads();
  }
  for (int64_t head = 0; head < x.index_q.groups; head += kHeadBlock) {
    const int heads = HeadsFrom(head, x.index_q.groups);
    HeadDots(
        {x.index_q.data + n * x.index_q.stride + head * x.index_q.group_stride,
         x.index_q.group_stride, x.index_q.columns},
        heads, x.index_keys, rows, count, &tile, sum);
    for (int which = 0; which < 2; ++which) {
      const int h = HeadOfThread(which);
      dots[h][j] = sum[which];
      if (x.products == nullptr || h >= heads || j >= count) continue;
      x.products[(i * x.index_q.groups + head + h) * width + first + j] =
          sum[which];
    }
    __syncthreads();
    score = AddHeads(dots, x.index_w.data + n * x.index_w.stride + head, heads,
                     j, score);
    __syncthreads();
  }
  if (t >= count) return;
  x.target[at + t] = target * (1.0f / static_cast<float>(x.q.groups));
  x.score[at + t] = score;
}

// p (log p - log softmax(I)) of a place, 0 where p is none.
__device__ inline double KlTerm(float target, float score, double sum) {
  const double p = static_cast<double>(target);
  if (!(p > 0)) return 0;
  return p * (Log(p) - (static_cast<double>(score) - sum));
}

// A warp a query; the loss is one chain over its places.
__global__ void kl_rows_f32(KlArgs x, float* kl) {
  const int64_t i = ThreadOfGrid() / kWarp;
  if (i >= x.records.queries) return;
  const int64_t count = x.records.count[i];
  const float* const score = x.score + i * x.records.width;
  const float* const target = x.target + i * x.records.width;
  double sum = 0;
  if (count > 0) {
    const float largest = WarpMax(count, [&](int64_t j) { return score[j]; });
    const float exps =
        WarpSum(count, [&](int64_t j) { return Exp(score[j] - largest); });
    sum = static_cast<double>(largest) + Log(static_cast<double>(exps));
  }
  if (LaneOf() == 0) x.sums[i] = sum;
  if (kl == nullptr) return;
  double loss = 0;
  for (int64_t first = 0; first < count; first += kWarp) {
    const int64_t j = first + LaneOf();
    const bool adds = j < count && target[j] > 0;
    const double term = adds ? KlTerm(target[j], score[j], sum) : 0;
    const unsigned mask = __ballot_sync(kAllLanes, adds);
    for (int lane = 0; lane < kWarp; ++lane) {
      const double of_lane = __shfl_sync(kAllLanes, term, lane);
      if ((mask >> lane & 1u) != 0) loss = loss + of_lane;
    }
  }
  if (LaneOf() == 0) kl[x.records.first + i] = static_cast<float>(loss);
}

// A warp a query and an index head.
__global__ void kl_grads_f32(KlArgs x, const float* dkl, Rows<float> dw) {
  const int64_t heads = x.index_q.groups;
  const int64_t at = ThreadOfGrid() / kWarp;
  const int64_t i = at / heads, h = at % heads;
  if (i >= x.records.queries) return;
  const int64_t n = x.records.first + i, width = x.records.width;
  const int64_t count = x.records.count[i];
  const float* const score = x.score + i * width;
  const float* const target = x.target + i * width;
  const float* const product = x.products + at * width;
  float* const ds = x.records.ds + at * width;
  const float w = x.index_w.data[n * x.index_w.stride + h];
  const float lse = static_cast<float>(x.sums[i]), factor = dkl[n];
  const auto dscore = [&](int64_t j) {
    return (Exp(score[j] - lse) - target[j]) * factor;
  };
  const float dot = WarpReduce(count, [&](int64_t j, bool there, float sum) {
    const float a = there ? dscore(j) : 0.0f;
    return Fma(a, there && product[j] > 0 ? product[j] : 0.0f, sum);
  });
  if (LaneOf() == 0) dw.data[n * dw.stride + h] = dot;
  for (int64_t j = LaneOf(); j < count; j += kWarp) {
    ds[j] = product[j] > 0 ? dscore(j) * w : 0.0f;
  }
}

}  // namespace

void IndexerSelect(const SelectArgs& args, Stream stream) {
  if (args.queries == 0) return;
  const auto queries = static_cast<unsigned>(args.queries);
  if (args.scores.columns > 0 &&
      (args.tap || args.scores.columns > args.selected.columns)) {
    const dim3 grid(queries, BlocksFor(args.scores.columns, kKeyBlock));
    TEMPER_LAUNCH(index_scores_f32, grid, kKeyThreads, 0, stream, args);
  }
  TEMPER_LAUNCH(top_k_f32, queries, kKeyThreads, 0, stream, args);
}

void IndexerKl(const KlArgs& args, float* kl, Stream stream) {
  if (args.records.queries == 0) return;
  if (args.records.width > 0) {
    const dim3 grid(static_cast<unsigned>(args.records.queries),
                    BlocksFor(args.records.width, kKeyBlock));
    TEMPER_LAUNCH(kl_scores_f32, grid, kKeyThreads, 0, stream, args);
  }
  TEMPER_LAUNCH_WARPS(kl_rows_f32, args.records.queries, stream, args, kl);
}

void IndexerKlGrads(const KlArgs& args, const float* dkl,
                    const Rows<float>& dindex_w, Stream stream) {
  TEMPER_LAUNCH_WARPS(kl_grads_f32, args.records.queries * args.index_q.groups,
                      stream, args, dkl, dindex_w);
}

}  // namespace temper::cuda
