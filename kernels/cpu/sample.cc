// Sampling. Masses are integers, so that no order of adding them shows: min-p,
// top-p and the inverse CDF compare sums that are exact on any device.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>

#include "kernels/base/log.h"
#include "kernels/base/rng.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/float_order.h"
#include "kernels/cpu/key_rows.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/softmax_log.h"
#include "kernels/ops/shape_check.h"

namespace temper {
namespace {

// A mass is floor(e 2^40), e = exp(z - largest) <= 1: of a vocabulary below
// 2^23 the sum is below 2^63.
constexpr int kMassBits = 40;

// Times a power of two is exact; a NaN, of broken weights, has no mass.
uint64_t MassOf(float e) {
  return e > 0 ? static_cast<uint64_t>(e * 0x1p40f) : 0;
}

// floor(x 2^40) of a probability.
uint64_t FractionOf(float x) {
  return static_cast<uint64_t>(double{x} * 0x1p40);
}

// floor(total part / 2^bits), which needs 128 bits on the way.
uint64_t ShareOf(uint64_t total, uint64_t part, int bits) {
  return static_cast<uint64_t>(static_cast<unsigned __int128>(total) * part >>
                               bits);
}

// Order by logit descending, then id ascending, as one number.
uint64_t RankKey(float z, int64_t id) {
  return uint64_t{OrderedBits(z)} << 32 |
         (0xFFFFFFFFu - static_cast<uint32_t>(id));
}

int32_t IdOf(uint64_t key) {
  return static_cast<int32_t>(0xFFFFFFFFu - static_cast<uint32_t>(key));
}

// One row on its way through the rules.
struct Row {
  const float* z;
  const float* e;  // exp(z - largest)
  int64_t vocabulary;
  uint64_t* ranks;  // room for a key per id
};

// The ids that top-k leaves, or all that top-p and min-p can keep, by rank into
// row.ranks; returns how many, and in *needed the mass at which top-p stops.
int64_t Candidates(const Row& row, const SampleOptions& options, bool top_k,
                   uint64_t* needed) {
  const bool top_p = options.top_p > 0 && options.top_p < 1;
  const auto descending = std::greater<uint64_t>();
  uint64_t* const ranks = row.ranks;
  uint64_t total = 0;
  int64_t count = 0;
  uint64_t least = 0;
  if (top_k) {
    for (int64_t id = 0; id < row.vocabulary; ++id) {
      ranks[id] = RankKey(row.z[id], id);
    }
    count = options.top_k;
    std::nth_element(ranks, ranks + count - 1, ranks + row.vocabulary,
                     descending);
    for (int64_t i = 0; i < count; ++i) total += MassOf(row.e[IdOf(ranks[i])]);
  } else {
    for (int64_t id = 0; id < row.vocabulary; ++id) total += MassOf(row.e[id]);
  }
  *needed = top_p ? ShareOf(total, FractionOf(options.top_p), kMassBits)
                  : ~uint64_t{0};
  if (!top_k) {
    // Ids below the share that top-p leaves, divided by V, have less than that
    // share together, so those above it hold the one that crosses. Without
    // top-p nothing counts but what min-p keeps.
    least = top_p ? (total - *needed) / static_cast<uint64_t>(row.vocabulary)
                  : FractionOf(options.min_p);
    for (int64_t id = 0; id < row.vocabulary; ++id) {
      if (MassOf(row.e[id]) >= least) ranks[count++] = RankKey(row.z[id], id);
    }
  }
  std::sort(ranks, ranks + count, descending);
  return count;
}

// Writes the kept ids of one row, ascending, and returns how many; 0 when
// nothing is truncated.
int64_t Truncate(const Row& row, const SampleOptions& options, int32_t* kept) {
  const bool top_k = options.top_k > 0 && options.top_k < row.vocabulary;
  const bool top_p = options.top_p > 0 && options.top_p < 1;
  if (!top_k && !top_p && options.min_p <= 0) return 0;
  uint64_t needed = 0;
  const int64_t count = Candidates(row, options, top_k, &needed);
  const uint64_t floor = FractionOf(options.min_p);
  uint64_t running = 0;
  int64_t length = 0;
  for (int64_t i = 0; i < count && length < options.kept_max; ++i) {
    if (i > 0 && running >= needed) break;
    const int32_t id = IdOf(row.ranks[i]);
    const uint64_t mass = MassOf(row.e[id]);
    running += mass;
    if (mass >= floor) kept[length++] = id;
  }
  if (length == row.vocabulary) return 0;
  std::sort(kept, kept + length);
  return length;
}

// The first of e whose running mass exceeds floor(total word / 2^32); there is
// one unless all masses are 0.
int64_t InverseCdf(const float* e, int64_t count, uint32_t word) {
  uint64_t total = 0;
  for (int64_t i = 0; i < count; ++i) total += MassOf(e[i]);
  const uint64_t goal = ShareOf(total, word, 32);
  uint64_t running = 0;
  for (int64_t i = 0; i < count; ++i) {
    running += MassOf(e[i]);
    if (running > goal) return i;
  }
  return 0;
}

// By value: where the rows lie in a batch's one buffer is no matter of theirs.
SampleRow RowAt(const Rows<const int32_t>& rows, int64_t n) {
  SampleRow row;
  std::memcpy(static_cast<void*>(&row), rows.row(n), sizeof(row));
  return row;
}

bool CanSample(const SampleRow& row, int64_t kept_columns) {
  return row.options.temperature > 0 && row.options.kept_max >= 1 &&
         row.options.kept_max <= kept_columns;
}

}  // namespace

void CpuBackend::DrawWords(const Tensor& rows, const Tensor& words) {
  CheckDrawWords(rows, words);
  const auto from = AsRows<const int32_t>(rows);
  int32_t* const word = AsVector<int32_t>(words, from.rows);
  for (int64_t n = 0; n < from.rows; ++n) {
    const SampleRow row = RowAt(from, n);
    word[n] = static_cast<int32_t>(
        RandomWords({row.seed, RngPurpose::kSampleToken, row.group, row.sample,
                     row.ordinal})[0]);
  }
}

void CpuBackend::Sample(const SampleArgs& args) {
  CheckShapes(args);
  const auto in = AsRows<float>(args.logits);
  const auto rows = AsRows<const int32_t>(args.rows);
  const int32_t* word = AsVector<int32_t>(args.words, in.rows);
  int32_t* id_out = AsVector<int32_t>(args.ids, in.rows);
  float* logp_out = AsVector<float>(args.logp, in.rows);
  const auto kept_out = AsRows<int32_t>(args.kept_ids);
  int32_t* count_out = AsVector<int32_t>(args.kept_counts, in.rows);
  const int64_t vocabulary = in.columns;
  const int64_t width = RoundUp16(vocabulary);
  pool_.ParallelFor(in.rows, 1, [&](int thread, int64_t begin, int64_t end) {
    float* z = Scratch(thread, 4 * width);
    float* e = z + width;
    auto* ranks = reinterpret_cast<uint64_t*>(z + 2 * width);
    for (int64_t n = begin; n < end; ++n) {
      const SampleRow row = RowAt(rows, n);
      if (!CanSample(row, kept_out.columns)) {
        SetFault(DeviceFault::kSampleRow);
        continue;
      }
      std::copy(in.row(n), in.row(n) + vocabulary, z);
      DivideByTemperature(tier_, row.options.temperature, z, vocabulary);
      const Normalised whole = Normalise(tier_, z, vocabulary, e);
      int32_t* kept = kept_out.row(n);
      const int64_t count =
          Truncate({z, e, vocabulary, ranks}, row.options, kept);
      std::fill(kept + count, kept + kept_out.columns, -1);
      // Kept ids ascend, so none is overwritten before it is read. The largest
      // is kept, so the masses stay what they were.
      for (int64_t i = 0; i < count; ++i) z[i] = z[kept[i]];
      const int64_t choices = count == 0 ? vocabulary : count;
      const Normalised sum = count == 0 ? whole : Normalise(tier_, z, count, e);
      const int64_t place =
          InverseCdf(e, choices, static_cast<uint32_t>(word[n]));
      id_out[n] = count == 0 ? static_cast<int32_t>(place) : kept[place];
      count_out[n] = row.keep != 0 ? static_cast<int32_t>(count) : 0;
      logp_out[n] = z[place] - (row.keep != 0 ? sum.lse : whole.lse);
    }
  });
}

}  // namespace temper
