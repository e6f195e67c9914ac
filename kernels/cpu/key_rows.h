// Where selected keys lie, and products with them: what attention and indexer
// share. Internal to the CPU backend.

#ifndef KERNELS_CPU_KEY_ROWS_H_
#define KERNELS_CPU_KEY_ROWS_H_

#include <atomic>
#include <cstdint>

#include "kernels/base/thread_pool.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/tier.h"
#include "kernels/ops/backend.h"

namespace temper {

// Typed view of a KeyMap. Thread-safe.
class KeyRows {
 public:
  // CHECKs the shapes against `queries` and that page_tokens is a power of two.
  // A key beyond the tables or the `rows` of the strip is taken for the first
  // row, and bad() from then on.
  KeyRows(const KeyMap& map, int64_t queries, int64_t rows);

  bool bad() const { return bad_; }

  int32_t sequence(int64_t query) const { return sequence_[query]; }
  int32_t position(int64_t query) const { return position_[query]; }

  // rows[j] = the row of key positions[j]. Stops at the first position < 0 or
  // at `limit` and returns how many there are.
  int64_t Selected(int64_t query, const int32_t* positions, int64_t limit,
                   int32_t* rows) const;

  // rows[j] = the row of key begin + j of the query's sequence.
  void Range(int64_t query, int64_t begin, int64_t count, int32_t* rows) const;
  // Whether Range gives both queries the same rows: of sequences that share
  // what they begin with it often does.
  bool SameRange(int64_t query, int64_t other, int64_t begin,
                 int64_t count) const;

 private:
  int32_t Row(const int32_t* blocks, int64_t key) const;

  const int32_t* sequence_;
  const int32_t* position_;
  Rows<int32_t> blocks_;
  int page_shift_;
  int64_t page_mask_;
  int64_t rows_;
  mutable std::atomic<bool> bad_{false};
};

// Keys that products can take. Of FP8 they are widened first, to bf16 that lies
// densely in `room`, a float of which holds two; of others they are the strip's
// own rows.
struct Keys {
  Strip strip;
  const int32_t* rows;
};
enum class Scaled : bool { kNo, kYes };  // no: codes as numbers
Keys KeysOf(const TierKernels& kernels, const Strip& strip, const int32_t* rows,
            int64_t count, Scaled scaled, float* room);
int64_t KeysRoom(const Strip& strip, int64_t count);

// Where the codes of an index page's row are, and its scale.
const uint8_t* IndexCodes(const Strip& strip, int64_t row);
float IndexScale(const Strip& strip, int64_t row);

// Products with keys come in two: of floats by rows_product on the keys where
// they lie, of bf16 by pair_product on keys that are paired first. Each takes
// scratch, of the floats that its function says.

// out[i * out_row + j] = a[i * a_row ..] . key j, over the first `dims`.
struct KeyProduct {
  const float* a = nullptr;
  int64_t a_row = 0;
  int64_t m = 0;
  int64_t dims = 0;
  float* out = nullptr;
  int64_t out_row = 0;
};

// Both products (the second may have m = 0) with the keys rows[0 .. count), in
// blocks of 64; the first has the larger dims.
void ProductsWithKeys(const TierKernels& kernels, const Strip& keys,
                      const int32_t* rows, int64_t count,
                      const KeyProduct& first, const KeyProduct& second,
                      float* scratch);
int64_t ProductsScratch(const Strip& keys, int64_t m, int64_t dims);

// y[i * y_row ..] = sum_j a[i * a_row + j] key j, over the first `columns` of
// each key, onto what is in y if `onto`.
struct WeightedKeys {
  const float* a = nullptr;
  int64_t a_row = 0;
  int64_t m = 0;
  float* y = nullptr;
  int64_t y_row = 0;
  int64_t columns = 0;
  bool onto = false;
};
void SumKeys(const TierKernels& kernels, const Strip& keys, const int32_t* rows,
             int64_t count, const WeightedKeys& sum, float* scratch);
int64_t SumScratch(const Strip& keys, int64_t m, int64_t columns);

// Columns [begin, end) of y[rows[j]] += sum_i a[i, j] b[i], j < count:
// gradients of a query's keys, each summed from zero and then added, so that a
// device may form them side by side. a [m, a_row], b [m, b_row]; `narrow` says
// that both are rounded.
struct KeyGradient {
  const float* a = nullptr;
  int64_t a_row = 0;
  const float* b = nullptr;
  int64_t b_row = 0;
  int64_t m = 0;
  bool narrow = false;
};
void AddToKeys(const TierKernels& kernels, const KeyGradient& gradient,
               const int32_t* rows, int64_t count, int64_t begin, int64_t end,
               const Rows<float>& y, float* scratch);
int64_t GradientScratch(bool narrow, int64_t m, int64_t columns);

// Calls body(thread, query) for each query, in tiles of 16 dealt to the
// threads in turn: causal work grows along a sequence, so halves would not
// balance.
void ForEachQuery(ThreadPool* pool, int64_t queries,
                  absl::FunctionRef<void(int, int64_t)> body);

// Rounded up so that rows of scratch stay aligned to 64 bytes.
constexpr int64_t RoundUp16(int64_t n) { return (n + 15) / 16 * 16; }

}  // namespace temper

#endif  // KERNELS_CPU_KEY_ROWS_H_
