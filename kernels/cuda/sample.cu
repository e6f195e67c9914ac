// Sampling: a block of threads a row. Masses are integers, so the order in
// which they are added does not show, and what the CPU finds by sorting
// (kernels/cpu/sample.cc) is found here by digits: the key, of a total order,
// at which a running sum first reaches a goal.

#include "kernels/cuda/block_scan.h"
#include "kernels/cuda/device_math.h"
#include "kernels/cuda/sample.h"
#include "kernels/ops/sample_arguments.h"

namespace temper::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kDigits = 256;  // of 8 bits
constexpr int kMassBits = 40;

// --- Words (kernels/base/rng.h) ----------------------------------------------

constexpr uint32_t kMultiplier0 = 0xD2511F53u;
constexpr uint32_t kMultiplier1 = 0xCD9E8D57u;
constexpr uint32_t kWeyl0 = 0x9E3779B9u;
constexpr uint32_t kWeyl1 = 0xBB67AE85u;
constexpr int kRounds = 10;
constexpr uint32_t kSampleToken = 1;  // RngPurpose::kSampleToken

__device__ inline uint32_t FirstWord(const SampleRow& row) {
  uint32_t counter[4] = {
      row.ordinal, row.sample, static_cast<uint32_t>(row.group),
      static_cast<uint32_t>(row.group >> 32) | kSampleToken << 16};
  uint32_t key0 = static_cast<uint32_t>(row.seed);
  uint32_t key1 = static_cast<uint32_t>(row.seed >> 32);
  for (int round = 0; round < kRounds; ++round) {
    const uint64_t p0 = uint64_t{kMultiplier0} * counter[0];
    const uint64_t p1 = uint64_t{kMultiplier1} * counter[2];
    const uint32_t first = static_cast<uint32_t>(p1 >> 32) ^ counter[1] ^ key0;
    const uint32_t third = static_cast<uint32_t>(p0 >> 32) ^ counter[3] ^ key1;
    counter[0] = first;
    counter[1] = static_cast<uint32_t>(p1);
    counter[2] = third;
    counter[3] = static_cast<uint32_t>(p0);
    key0 += kWeyl0;
    key1 += kWeyl1;
  }
  return counter[0];
}

// Rows lie in a batch's one buffer, by 4 bytes aligned.
__device__ inline SampleRow RowAt(const Rows<const int32_t>& rows, int64_t n) {
  union Words {
    int32_t words[kSampleRowInts];
    SampleRow row;
    __device__ Words() {}
  } at;
  for (int i = 0; i < kSampleRowInts; ++i) {
    at.words[i] = rows.data[n * rows.stride + i];
  }
  return at.row;
}

__global__ void draw_words_u32(Rows<const int32_t> rows, int32_t* words) {
  const int64_t n = ThreadOfGrid();
  if (n < rows.rows) words[n] = static_cast<int32_t>(FirstWord(RowAt(rows, n)));
}

// --- One row -----------------------------------------------------------------

__device__ inline uint64_t MassOf(float e) {
  return e > 0 ? static_cast<uint64_t>(e * 1099511627776.0f) : 0;  // 2^40
}

__device__ inline uint64_t FractionOf(float x) {
  return static_cast<uint64_t>(static_cast<double>(x) * 1099511627776.0);
}

// floor(total part / 2^bits), which needs 128 bits on the way.
__device__ inline uint64_t ShareOf(uint64_t total, uint64_t part, int bits) {
  return __umul64hi(total, part) << (64 - bits) | total * part >> bits;
}

// Places of a list and what they hold, normalised: all ids, or the kept ones.
struct List {
  const float* logits;
  const int32_t* kept;  // null: every id
  int64_t count;
  float temperature;
  float largest;

  __device__ float z(int64_t place) const {
    const float logit = logits[kept == nullptr ? place : kept[place]];
    return temperature != 1 ? logit / temperature : logit;
  }
  __device__ uint64_t mass(int64_t place) const {
    return MassOf(Exp(z(place) - largest));
  }
  // By z descending, then id ascending, as one number.
  __device__ uint64_t rank(int64_t id) const {
    return uint64_t{OrderedBits(z(id))} << 32 |
           (0xFFFFFFFFu - static_cast<uint32_t>(id));
  }
};

// What a block shares.
struct Shared {
  unsigned long long sums[kDigits];
  unsigned long long value;
  unsigned long long left;
  float largest;
  float lse;
  ScanRoom<kThreads> scan;
};

// By the block: largest and the log-sum-exp of a list, by its first warp.
__device__ inline void Normalise(List* list, float* lse, Shared* s) {
  if (threadIdx.x < kWarp) {
    const float largest =
        WarpMax(list->count, [&](int64_t i) { return list->z(i); });
    const float sum = WarpSum(
        list->count, [&](int64_t i) { return Exp(list->z(i) - largest); });
    if (LaneOf() == 0) {
      s->largest = largest;
      s->lse = LogSumExp(largest, sum);
    }
  }
  __syncthreads();
  list->largest = s->largest;
  *lse = s->lse;
  __syncthreads();
}

// By the block: the sum of value(i), i < count.
template <typename Value>
__device__ inline uint64_t SumOf(int64_t count, const Value& value, Shared* s) {
  if (threadIdx.x == 0) s->value = 0;
  __syncthreads();
  uint64_t own = 0;
  for (int64_t i = threadIdx.x; i < count; i += kThreads) own += value(i);
  atomicAdd(&s->value, static_cast<unsigned long long>(own));
  __syncthreads();
  const uint64_t sum = s->value;
  __syncthreads();
  return sum;
}

// By the block: the rank key of the id at which the running sum of value(id),
// by rank, first reaches `goal` >= 1; a key below all others if it never does.
template <typename Value>
__device__ inline uint64_t KeyReaching(const List& list, uint64_t goal,
                                       const Value& value, Shared* s) {
  uint64_t prefix = 0, left = goal;
  for (int shift = 56; shift >= 0; shift -= 8) {
    for (int i = static_cast<int>(threadIdx.x); i < kDigits; i += kThreads) {
      s->sums[i] = 0;
    }
    __syncthreads();
    for (int64_t id = threadIdx.x; id < list.count; id += kThreads) {
      const uint64_t key = list.rank(id);
      if (shift < 56 && (key ^ prefix) >> (shift + 8) != 0) continue;
      const uint64_t of_id = value(id);
      if (of_id == 0) continue;
      atomicAdd(&s->sums[key >> shift & 0xFFu],
                static_cast<unsigned long long>(of_id));
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      int digit = kDigits - 1;
      for (; digit > 0 && s->sums[digit] < left; --digit) {
        left -= s->sums[digit];
      }
      s->value = prefix | static_cast<uint64_t>(digit) << shift;
      s->left = left;
    }
    __syncthreads();
    prefix = s->value;
    left = s->left;
    __syncthreads();
  }
  return prefix;
}

// Which ids stay, by the key from which on they do and the masses they need.
struct Rules {
  uint64_t key = 0;    // of the last by rank
  uint64_t least = 0;  // mass of a candidate
  uint64_t floor = 0;  // mass of a kept id

  __device__ bool Considers(const List& all, int64_t id) const {
    return all.rank(id) >= key && all.mass(id) >= least;
  }
  __device__ bool Keeps(const List& all, int64_t id) const {
    return all.rank(id) >= key && all.mass(id) >= least &&
           all.mass(id) >= floor;
  }
};

// By the block: top-k, then top-p, then min-p, then kept_max.
__device__ inline Rules RulesOf(const List& all, const SampleOptions& options,
                                int64_t kept_max, Shared* s) {
  const auto one = [&](int64_t) { return uint64_t{1}; };
  const bool top_k = options.top_k > 0 && options.top_k < all.count;
  const bool top_p = options.top_p > 0 && options.top_p < 1;
  Rules rules;
  if (top_k) {
    rules.key = KeyReaching(all, static_cast<uint64_t>(options.top_k), one, s);
  }
  if (top_p) {
    const uint64_t total = SumOf(
        all.count,
        [&](int64_t id) {
          return all.rank(id) >= rules.key ? all.mass(id) : uint64_t{0};
        },
        s);
    const uint64_t needed =
        ShareOf(total, FractionOf(options.top_p), kMassBits);
    // As on the CPU, which sorts no more than it must.
    if (!top_k)
      rules.least = (total - needed) / static_cast<uint64_t>(all.count);
    // Nothing needed: the first by rank alone.
    const Rules until = rules;
    const auto counts = [&](int64_t id) {
      if (!until.Considers(all, id)) return uint64_t{0};
      return needed == 0 ? uint64_t{1} : all.mass(id);
    };
    rules.key = KeyReaching(all, needed == 0 ? 1 : needed, counts, s);
    if (rules.key < until.key) rules.key = until.key;
  } else if (!top_k) {
    rules.least = FractionOf(options.min_p);
  }
  rules.floor = FractionOf(options.min_p);
  const Rules until = rules;
  const auto kept = [&](int64_t id) {
    return until.Keeps(all, id) ? uint64_t{1} : uint64_t{0};
  };
  if (SumOf(all.count, kept, s) > static_cast<uint64_t>(kept_max)) {
    rules.key = KeyReaching(all, static_cast<uint64_t>(kept_max), kept, s);
  }
  return rules;
}

// By the block: writes the kept ids, ascending, -1 behind them; returns how
// many, 0 when nothing is truncated.
__device__ inline int64_t Truncate(const List& all,
                                   const SampleOptions& options,
                                   int64_t kept_max, int32_t* kept,
                                   int64_t columns, Shared* s) {
  int64_t count = 0;
  const bool truncates = (options.top_k > 0 && options.top_k < all.count) ||
                         (options.top_p > 0 && options.top_p < 1) ||
                         options.min_p > 0;
  if (truncates) {
    const Rules rules = RulesOf(all, options, kept_max, s);
    for (int64_t first = 0; first < all.count; first += kThreads) {
      const int64_t id = first + threadIdx.x;
      const bool stays = id < all.count && rules.Keeps(all, id);
      int more = 0;
      const int64_t place = count + CountBefore(stays, &s->scan, &more);
      if (stays) kept[place] = static_cast<int32_t>(id);
      count += more;
    }
    if (count == all.count) count = 0;
  }
  for (int64_t i = count + threadIdx.x; i < columns; i += kThreads) {
    kept[i] = -1;
  }
  __syncthreads();
  return count;
}

// By the block: the first place whose running mass exceeds floor(total word /
// 2^32), 0 if there is none. A thread sums a run of places; the run that
// crosses is gone through.
__device__ inline int64_t InverseCdf(const List& list, uint32_t word,
                                     Shared* s) {
  const int64_t run = (list.count + kThreads - 1) / kThreads;
  const int64_t begin = threadIdx.x * run;
  uint64_t own = 0;
  for (int64_t i = begin; i < begin + run && i < list.count; ++i) {
    own += list.mass(i);
  }
  s->sums[threadIdx.x] = own;
  __syncthreads();
  if (threadIdx.x == 0) {
    uint64_t total = 0, running = 0;
    for (int t = 0; t < kThreads; ++t) total += s->sums[t];
    const uint64_t goal = ShareOf(total, word, 32);
    int t = 0;
    for (; t + 1 < kThreads && running + s->sums[t] <= goal; ++t) {
      running += s->sums[t];
    }
    s->value = 0;
    for (int64_t i = t * run; i < (t + 1) * run && i < list.count; ++i) {
      running += list.mass(i);
      if (running <= goal) continue;
      s->value = static_cast<unsigned long long>(i);
      break;
    }
  }
  __syncthreads();
  return static_cast<int64_t>(s->value);
}

__global__ void __launch_bounds__(kThreads, 4) sample_f32(SampleTensors x) {
  __shared__ Shared s;
  const int64_t n = blockIdx.x;
  const SampleRow row = RowAt(x.rows, n);
  int32_t* const kept = x.kept_ids.data + n * x.kept_ids.stride;
  int64_t kept_max = row.options.kept_max;
  if (kept_max < 1 || kept_max > x.kept_ids.columns) {
    if (threadIdx.x == 0) SetFault(x.fault, DeviceFault::kKeptSet);
    kept_max = x.kept_ids.columns;
  }
  List list = {x.logits.data + n * x.logits.stride, nullptr, x.logits.columns,
               row.options.temperature, 0};
  float whole = 0, of_list = 0;
  Normalise(&list, &whole, &s);
  of_list = whole;
  const int64_t count =
      Truncate(list, row.options, kept_max, kept, x.kept_ids.columns, &s);
  if (count > 0) {
    list.kept = kept;
    list.count = count;
    Normalise(&list, &of_list, &s);
  }
  const int64_t place = InverseCdf(list, static_cast<uint32_t>(x.words[n]), &s);
  if (threadIdx.x != 0) return;
  x.ids[n] = count == 0 ? static_cast<int32_t>(place) : kept[place];
  x.kept_counts[n] = row.keep != 0 ? static_cast<int32_t>(count) : 0;
  x.logp[n] = list.z(place) - (row.keep != 0 ? of_list : whole);
}

}  // namespace

void DrawWords(const Rows<const int32_t>& rows, int32_t* words, Stream stream) {
  TEMPER_LAUNCH_THREADS(draw_words_u32, rows.rows, stream, rows, words);
}

void Sample(const SampleTensors& args, Stream stream) {
  if (args.logits.rows == 0) return;
  TEMPER_LAUNCH(sample_f32, static_cast<unsigned>(args.logits.rows), kThreads,
                0, stream, args);
}

}  // namespace temper::cuda
