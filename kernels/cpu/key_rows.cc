#include "kernels/cpu/key_rows.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "kernels/base/log.h"
#include "kernels/cpu/gemm.h"

namespace temper {

KeyRows::KeyRows(const KeyMap& map, int64_t queries, int64_t rows)
    : sequence_(AsVector<int32_t>(map.sequence, queries)),
      position_(AsVector<int32_t>(map.position, queries)),
      blocks_(AsRows<int32_t>(map.blocks)),
      page_shift_(std::countr_zero(static_cast<uint32_t>(map.page_tokens))),
      page_mask_(map.page_tokens - 1),
      rows_(rows) {}

int32_t KeyRows::Row(const int32_t* blocks, int64_t key) const {
  const int64_t page = key >> page_shift_;
  if (page < blocks_.columns) {
    const int64_t row =
        (int64_t{blocks[page]} << page_shift_) + (key & page_mask_);
    if (row >= 0 && row < rows_) return static_cast<int32_t>(row);
  }
  bad_ = true;
  return 0;
}

int64_t KeyRows::Selected(int64_t query, const int32_t* positions,
                          int64_t limit, int32_t* rows) const {
  const int32_t* blocks = blocks_.row(sequence_[query]);
  int64_t count = 0;
  for (; count < limit && positions[count] >= 0; ++count) {
    rows[count] = Row(blocks, positions[count]);
  }
  return count;
}

void KeyRows::Range(int64_t query, int64_t begin, int64_t count,
                    int32_t* rows) const {
  const int32_t* blocks = blocks_.row(sequence_[query]);
  for (int64_t j = 0; j < count; ++j) rows[j] = Row(blocks, begin + j);
}

bool KeyRows::SameRange(int64_t query, int64_t other, int64_t begin,
                        int64_t count) const {
  if (sequence_[query] == sequence_[other]) return true;
  const int64_t first = begin >> page_shift_;
  const int64_t last = (begin + count - 1) >> page_shift_;
  if (last >= blocks_.columns) return false;
  return std::equal(blocks_.row(sequence_[query]) + first,
                    blocks_.row(sequence_[query]) + last + 1,
                    blocks_.row(sequence_[other]) + first);
}

namespace {

// Codes of a latent row, then its scales, then bf16: none of them aligned.
void WidenLatent(const TierKernels& kernels, const Strip& strip, int64_t row,
                 uint16_t* to) {
  const uint8_t* const codes = strip.bytes + row * strip.stride;
  const int64_t latent = strip.columns - strip.rope;
  for (int64_t k = 0; k < latent; k += kScaleBlock) {
    float scale;
    std::memcpy(&scale, codes + latent + 4 * (k / kScaleBlock), sizeof(scale));
    kernels.widen_codes(codes + k, scale, to + k,
                        std::min(kScaleBlock, latent - k));
  }
  std::memcpy(to + latent, codes + latent + 4 * ScaleBlocks(latent),
              static_cast<size_t>(strip.rope) * sizeof(uint16_t));
}

// Rows in keys' room follow one another.
constexpr std::array<int32_t, kKeyBlock> kInOrder = [] {
  std::array<int32_t, kKeyBlock> order = {};
  for (int32_t j = 0; j < kKeyBlock; ++j) order[j] = j;
  return order;
}();

}  // namespace

const uint8_t* IndexCodes(const Strip& strip, int64_t row) {
  return strip.bytes + row / kIndexPageRows * strip.stride +
         row % kIndexPageRows * strip.columns;
}

float IndexScale(const Strip& strip, int64_t row) {
  float scale;
  std::memcpy(&scale,
              strip.bytes + row / kIndexPageRows * strip.stride +
                  kIndexPageRows * strip.columns + 4 * (row % kIndexPageRows),
              sizeof(scale));
  return scale;
}

int64_t KeysRoom(const Strip& strip, int64_t count) {
  if (strip.bytes == nullptr) return 0;
  return RoundUp16(count * strip.columns / 2 + 1) + RoundUp16(count);
}

Keys KeysOf(const TierKernels& kernels, const Strip& strip, const int32_t* rows,
            int64_t count, Scaled scaled, float* room) {
  if (strip.bytes == nullptr) return {strip, rows};
  auto* const widened = reinterpret_cast<uint16_t*>(room);
  for (int64_t j = 0; j < count; ++j) {
    uint16_t* const to = widened + j * strip.columns;
    if (!strip.paged) {
      WidenLatent(kernels, strip, rows[j], to);
      continue;
    }
    const float scale =
        scaled == Scaled::kYes ? IndexScale(strip, rows[j]) : 1.0f;
    kernels.widen_codes(IndexCodes(strip, rows[j]), scale, to, strip.columns);
  }
  const Strip dense = {.narrow = widened,
                       .rows = count,
                       .columns = strip.columns,
                       .stride = strip.columns};
  if (count <= kKeyBlock) return {dense, kInOrder.data()};
  auto* const order = reinterpret_cast<int32_t*>(
      room + RoundUp16(count * strip.columns / 2 + 1));
  for (int64_t j = 0; j < count; ++j) order[j] = static_cast<int32_t>(j);
  return {dense, order};
}

namespace {

// Rows of a product of pairs, packed.
struct PackedRows {
  const void* data = nullptr;
  int64_t row = 0;  // bytes
};

int64_t PackedFloatsOf(int64_t m, int64_t depth) {
  return m * PaddedDepth(depth);
}

PackedRows Pack(const TierKernels& kernels, const float* a, int64_t a_row,
                int64_t a_k, int64_t m, int64_t depth, float* to) {
  const int64_t row = PaddedDepth(depth) * kernels.pack_a_bytes;
  kernels.pack_a(a, a_row, a_k, m, depth, to, row);
  return {to, row};
}

// One block of keys, the k of a product along their dims.
void ProductWithBlock(const TierKernels& kernels, const KeyProduct& product,
                      const float* transposed, int64_t begin, int64_t count) {
  if (product.m == 0) return;
  kernels.rows_product({.a = product.a,
                        .a_row = product.a_row,
                        .b = transposed,
                        .b_row = kKeyBlock,
                        .y = product.out + begin,
                        .y_row = product.out_row,
                        .m = product.m,
                        .k = product.dims,
                        .n = count});
}

void PairsWithBlock(const TierKernels& kernels, const KeyProduct& product,
                    const PackedRows& a, const uint32_t* pairs, int64_t begin,
                    int64_t count) {
  kernels.pair_product({.rows = product.m,
                        .columns = count,
                        .depth = product.dims,
                        .a = a.data,
                        .a_row = a.row,
                        .b = pairs,
                        .b_panel = kPanel,
                        .b_pair = kKeyBlock,
                        .c = product.out + begin,
                        .c_row = product.out_row});
}

void PairsWithKeys(const TierKernels& kernels, const Strip& keys,
                   const int32_t* rows, int64_t count, const KeyProduct& first,
                   const KeyProduct& second, float* scratch) {
  auto* pairs = reinterpret_cast<uint32_t*>(scratch);
  float* at = scratch + PaddedDepth(first.dims) / 2 * kKeyBlock;
  const PackedRows a =
      Pack(kernels, first.a, first.a_row, 1, first.m, first.dims, at);
  at += PackedFloatsOf(first.m, first.dims);
  const PackedRows b = second.m == 0 ? PackedRows()
                                     : Pack(kernels, second.a, second.a_row, 1,
                                            second.m, second.dims, at);
  // A depth that ends within a block is padded with zeros, which are not what
  // the longer keys have there.
  const bool shared = second.dims % kPairBlock == 0;
  for (int64_t begin = 0; begin < count; begin += kKeyBlock) {
    const int64_t block = std::min(kKeyBlock, count - begin);
    kernels.pair_keys(keys.narrow, keys.stride, rows + begin, block, first.dims,
                      pairs);
    PairsWithBlock(kernels, first, a, pairs, begin, block);
    if (second.m == 0) continue;
    if (!shared) {
      kernels.pair_keys(keys.narrow, keys.stride, rows + begin, block,
                        second.dims, pairs);
    }
    PairsWithBlock(kernels, second, b, pairs, begin, block);
  }
}

}  // namespace

int64_t ProductsScratch(const Strip& keys, int64_t m, int64_t dims) {
  if (!keys.in_pairs()) return kKeyBlock * dims;
  return PaddedDepth(dims) / 2 * kKeyBlock + 2 * PackedFloatsOf(m, dims);
}

void ProductsWithKeys(const TierKernels& kernels, const Strip& keys,
                      const int32_t* rows, int64_t count,
                      const KeyProduct& first, const KeyProduct& second,
                      float* scratch) {
  if (keys.narrow != nullptr) {
    return PairsWithKeys(kernels, keys, rows, count, first, second, scratch);
  }
  for (int64_t begin = 0; begin < count; begin += kKeyBlock) {
    const int64_t block = std::min(kKeyBlock, count - begin);
    kernels.gather_transposed(keys.floats, keys.stride, rows + begin, block,
                              first.dims, scratch);
    ProductWithBlock(kernels, first, scratch, begin, block);
    ProductWithBlock(kernels, second, scratch, begin, block);
  }
}

int64_t SumScratch(const Strip& keys, int64_t m, int64_t columns) {
  if (!keys.in_pairs()) return 0;
  return PackedPairs(columns, kKeyBlock) + PackedFloatsOf(m, kKeyBlock);
}

void SumKeys(const TierKernels& kernels, const Strip& keys, const int32_t* rows,
             int64_t count, const WeightedKeys& sum, float* scratch) {
  // Of no keys the sum is zero, which the floats' product writes.
  if (keys.narrow == nullptr || count == 0) {
    kernels.rows_product({.a = sum.a,
                          .a_row = sum.a_row,
                          .b = keys.floats,
                          .b_row = keys.stride,
                          .b_index = rows,
                          .y = sum.y,
                          .y_row = sum.y_row,
                          .m = sum.m,
                          .k = count,
                          .n = sum.columns,
                          .into = sum.onto ? Into::kContinue : Into::kStore});
    return;
  }
  auto* pairs = reinterpret_cast<uint32_t*>(scratch);
  float* packed = scratch + PackedPairs(sum.columns, kKeyBlock);
  // 64 keys are whole blocks, so the total goes on from y as in one product.
  for (int64_t begin = 0; begin < count; begin += kKeyBlock) {
    const int64_t block = std::min(kKeyBlock, count - begin);
    const PackedRows a =
        Pack(kernels, sum.a + begin, sum.a_row, 1, sum.m, block, packed);
    kernels.pair_rows(keys.narrow, keys.stride, rows + begin, block,
                      sum.columns, pairs, PairPanel(block));
    kernels.pair_product(
        {.rows = sum.m,
         .columns = sum.columns,
         .depth = block,
         .a = a.data,
         .a_row = a.row,
         .b = pairs,
         .b_panel = PairPanel(block),
         .c = sum.y,
         .c_row = sum.y_row,
         .into = begin == 0 && !sum.onto ? Into::kStore : Into::kContinue});
  }
}

int64_t GradientScratch(bool narrow, int64_t m, int64_t columns) {
  if (!narrow) return 0;
  return PackedPairs(columns, m) + PackedFloatsOf(kKeyBlock, m) +
         kKeyBlock * columns;
}

void AddToKeys(const TierKernels& kernels, const KeyGradient& gradient,
               const int32_t* rows, int64_t count, int64_t begin, int64_t end,
               const Rows<float>& y, float* scratch) {
  if (begin >= end) return;
  const int64_t width = end - begin;
  if (!gradient.narrow) {
    kernels.rows_product({.a = gradient.a,
                          .a_row = 1,
                          .a_col = gradient.a_row,
                          .b = gradient.b + begin,
                          .b_row = gradient.b_row,
                          .y = y.data + begin,
                          .y_row = y.stride,
                          .y_index = rows,
                          .m = count,
                          .k = gradient.m,
                          .n = width,
                          .into = Into::kAdd});
    return;
  }
  auto* pairs = reinterpret_cast<uint32_t*>(scratch);
  float* packed = scratch + PackedPairs(width, gradient.m);
  float* sums = packed + PackedFloatsOf(kKeyBlock, gradient.m);
  kernels.pair_floats(gradient.b + begin, gradient.b_row, gradient.m, width,
                      pairs, PairPanel(gradient.m));
  for (int64_t first = 0; first < count; first += kKeyBlock) {
    const int64_t block = std::min(kKeyBlock, count - first);
    const PackedRows a = Pack(kernels, gradient.a + first, 1, gradient.a_row,
                              block, gradient.m, packed);
    kernels.pair_product({.rows = block,
                          .columns = width,
                          .depth = gradient.m,
                          .a = a.data,
                          .a_row = a.row,
                          .b = pairs,
                          .b_panel = PairPanel(gradient.m),
                          .c = sums,
                          .c_row = width});
    for (int64_t j = 0; j < block; ++j) {
      kernels.add(sums + j * width, y.row(rows[first + j]) + begin, width);
    }
  }
}

void ForEachQuery(ThreadPool* pool, int64_t queries,
                  absl::FunctionRef<void(int, int64_t)> body) {
  constexpr int64_t kTile = 16;
  const int64_t threads = queries <= kTile ? 1 : pool->threads();
  pool->ParallelFor(threads, 1, [&](int thread, int64_t begin, int64_t end) {
    for (int64_t share = begin; share < end; ++share) {
      for (int64_t q = share * kTile; q < queries; q += threads * kTile) {
        const int64_t stop = std::min(q + kTile, queries);
        for (int64_t query = q; query < stop; ++query) body(thread, query);
      }
    }
  });
}

}  // namespace temper
