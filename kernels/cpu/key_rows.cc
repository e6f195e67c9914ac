#include "kernels/cpu/key_rows.h"

#include <algorithm>
#include <bit>

#include "kernels/base/log.h"

namespace temper {

KeyRows::KeyRows(const KeyMap& map, int64_t queries, int64_t rows)
    : sequence_(AsVector<int32_t>(map.sequence, queries)),
      position_(AsVector<int32_t>(map.position, queries)),
      blocks_(AsRows<int32_t>(map.blocks)),
      page_shift_(std::countr_zero(static_cast<uint32_t>(map.page_tokens))),
      page_mask_(map.page_tokens - 1),
      rows_(rows) {
  CHECK(map.page_tokens >= 1 &&
        std::has_single_bit(static_cast<uint32_t>(map.page_tokens)))
      << "page_tokens is " << map.page_tokens << ", not a power of two";
}

int32_t KeyRows::Row(const int32_t* blocks, int64_t key) const {
  const int64_t page = key >> page_shift_;
  CHECK(page < blocks_.columns)
      << "key " << key << " of a table of " << blocks_.columns << " pages";
  const int64_t row =
      (int64_t{blocks[page]} << page_shift_) + (key & page_mask_);
  CHECK(row >= 0 && row < rows_)
      << "key " << key << " in row " << row << " of " << rows_;
  return static_cast<int32_t>(row);
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

namespace {

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

}  // namespace

void ProductsWithKeys(const TierKernels& kernels, const Rows<float>& keys,
                      const int32_t* rows, int64_t count,
                      const KeyProduct& first, const KeyProduct& second,
                      float* transposed) {
  for (int64_t begin = 0; begin < count; begin += kKeyBlock) {
    const int64_t block = std::min(kKeyBlock, count - begin);
    kernels.gather_transposed(keys.data, keys.stride, rows + begin, block,
                              first.dims, transposed);
    ProductWithBlock(kernels, first, transposed, begin, block);
    ProductWithBlock(kernels, second, transposed, begin, block);
  }
}

void AddToKeys(const TierKernels& kernels, const float* a, int64_t a_row,
               const float* b, int64_t b_row, int64_t m, const int32_t* rows,
               int64_t count, int64_t begin, int64_t end,
               const Rows<float>& y) {
  if (begin >= end) return;
  kernels.rows_product({.a = a,
                        .a_row = 1,
                        .a_col = a_row,
                        .b = b + begin,
                        .b_row = b_row,
                        .y = y.data + begin,
                        .y_row = y.stride,
                        .y_index = rows,
                        .m = count,
                        .k = m,
                        .n = end - begin,
                        .into = Into::kAdd});
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
