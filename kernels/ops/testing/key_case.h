// Random queries over keys of several sequences, laid out in
// pages of any size, so that tests can ask whether the layout changes bits.

#ifndef KERNELS_OPS_TESTING_KEY_CASE_H_
#define KERNELS_OPS_TESTING_KEY_CASE_H_

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/base/rng.h"
#include "kernels/ops/backend.h"
#include "kernels/ops/cache_rows.h"
#include "kernels/ops/testing/backends_under_test.h"
#include "kernels/ops/testing/op_case.h"
#include "kernels/reference/attention.h"
#include "kernels/reference/quantised.h"
#include "kernels/tensor/bf16.h"
#include "kernels/tensor/fp8.h"
#include "kernels/tensor/tensor.h"

namespace temper {

// A backend and a layout of keys.
struct Machine {
  std::string name;
  Backend* backend;
  int32_t page_tokens;
};

// Every machine whose bits must agree in products of the type; the first is the
// definition.
inline std::vector<Machine> Machines(DType type = DType::kF32) {
  std::vector<Machine> machines;
  for (const auto& [name, backend] : BackendsUnderTest()) {
    if (!Multiplies(*backend, type)) continue;
    for (const int32_t page_tokens : {64, 1}) {
      machines.push_back({name + ", pages of " + std::to_string(page_tokens),
                          backend.get(), page_tokens});
    }
  }
  return machines;
}

// Draw `i` of stream `seed`, in [0, bound).
inline int64_t Draw(uint64_t seed, int64_t i, int64_t bound) {
  return static_cast<int64_t>(UniformBelow(
      {.seed = seed, .group = 1, .ordinal = static_cast<uint32_t>(i)}, bound));
}

// Rows of a cache in the type of its strip, as kernels/ops/cache_rows.h has it,
// and what products read of them. Each is given as floats [rows, columns].
class KeyStrip {
 public:
  static KeyStrip Latent(const Floats& x, int64_t columns, int64_t rope,
                         DType type) {
    KeyStrip strip(x, columns, type);
    if (type != DType::kF8E4M3) return strip;
    const int64_t latent = columns - rope;
    for (int64_t row = 0; row < strip.rows_; ++row) {
      const auto from = x.begin() + row * columns;
      const auto q = reference::QuantiseRows({from, from + latent}, latent);
      strip.AppendCodes(q.codes);
      for (const float scale : q.scales) strip.Append(scale);
      for (int64_t k = latent; k < columns; ++k) {
        strip.Append(BF16FromFloat(from[k]));
      }
      const Floats exact = q.Dequantised();
      std::copy(exact.begin(), exact.end(),
                strip.read_.begin() + row * columns);
    }
    return strip;
  }

  static KeyStrip Index(const Floats& x, int64_t dims, DType type) {
    KeyStrip strip(x, dims, type);
    if (type != DType::kF8E4M3) return strip;
    strip.read_.clear();
    for (int64_t page = 0; page < strip.rows_; page += kIndexPageRows) {
      const auto from = x.begin() + page * dims;
      Floats rows(from, x.end() - from < kIndexPageRows * dims
                            ? x.end()
                            : from + kIndexPageRows * dims);
      const auto q = reference::QuantiseRows(rows, dims);
      const Floats exact = q.Dequantised();
      strip.read_.insert(strip.read_.end(), exact.begin(), exact.end());
      strip.AppendCodes(q.codes);
      strip.bytes_.resize(page * (dims + 4) + kIndexPageRows * dims);
      for (const float scale : q.scales) strip.Append(scale);
    }
    strip.bytes_.resize(IndexPages(strip.rows_) * IndexPageBytes(dims));
    strip.rows_ = IndexPages(strip.rows_);
    return strip;
  }

  Tensor View() {
    if (type_ != DType::kF8E4M3) return plain_.View({rows_, columns_});
    const int64_t columns = static_cast<int64_t>(bytes_.size()) / rows_;
    return Tensor(bytes_.data(), type_, {rows_, columns});
  }
  // Of f8e4m3 what the codes stand for; else as it was given.
  const Floats& read() const { return read_; }
  const std::vector<uint8_t>& bytes() const { return bytes_; }

 private:
  KeyStrip(const Floats& x, int64_t columns, DType type)
      : type_(type),
        rows_(static_cast<int64_t>(x.size()) / columns),
        columns_(columns),
        plain_(x, type == DType::kF8E4M3 ? DType::kF32 : type),
        read_(x) {}

  template <typename T>
  void Append(T value) {
    const auto* at = reinterpret_cast<const uint8_t*>(&value);
    bytes_.insert(bytes_.end(), at, at + sizeof(value));
  }
  void AppendCodes(const Floats& codes) {
    for (const float code : codes) Append(E4M3FromFloat(code));
  }

  DType type_;
  int64_t rows_, columns_;
  Stored plain_;
  Floats read_;
  std::vector<uint8_t> bytes_;
};

// Sequences of kLength tokens; query n belongs to sequence n % sequences.
class KeyCase {
 public:
  static constexpr int64_t kLength = 150;
  static constexpr int64_t kPages = 3;  // of 64

  KeyCase(int64_t queries, int64_t sequences, uint64_t seed)
      : sequences_(sequences), sequence_(queries), position_(queries) {
    for (int64_t n = 0; n < queries; ++n) {
      sequence_[n] = static_cast<int32_t>(n / 3 % sequences);
      position_[n] = static_cast<int32_t>(n == 0 ? 0 : Draw(seed, n, kLength));
    }
  }

  int64_t queries() const { return static_cast<int64_t>(sequence_.size()); }
  int32_t sequence(int64_t n) const { return sequence_[n]; }
  int32_t position(int64_t n) const { return position_[n]; }

  // Rows of a strip: a page of 64 more than the sequences need.
  int64_t rows() const { return (sequences_ * kPages + 1) * 64; }

  // Scrambled: page i of all lies at (5 i + 2) mod prime-ish count.
  int64_t RowOf(int64_t sequence, int64_t key, int32_t page_tokens) const {
    const int64_t pages = rows() / page_tokens;
    const int64_t used = sequences_ * kPages * 64 / page_tokens;
    const int64_t page =
        sequence * kPages * 64 / page_tokens + key / page_tokens;
    return (pages - used + (used - 1 - page)) * page_tokens + key % page_tokens;
  }

  // Keeps the table it points to alive in this object.
  KeyMap Map(int32_t page_tokens, int64_t first, int64_t count) {
    const int64_t per_sequence = kPages * 64 / page_tokens;
    blocks_.resize(sequences_ * per_sequence);
    for (int64_t s = 0; s < sequences_; ++s) {
      for (int64_t page = 0; page < per_sequence; ++page) {
        blocks_[s * per_sequence + page] = static_cast<int32_t>(
            RowOf(s, page * page_tokens, page_tokens) / page_tokens);
      }
    }
    KeyMap map;
    map.sequence = Tensor(sequence_.data() + first, DType::kI32, {count});
    map.position = Tensor(position_.data() + first, DType::kI32, {count});
    map.blocks = View(blocks_, {sequences_, per_sequence});
    map.page_tokens = page_tokens;
    return map;
  }

  // `logical` [sequences * kLength, dims] placed into a strip, or read back.
  std::vector<float> Strip(const std::vector<float>& logical, int64_t dims,
                           int32_t page_tokens) const {
    std::vector<float> strip(rows() * dims, 0.0f);
    ForEachKey(page_tokens, [&](int64_t i, int64_t row) {
      for (int64_t d = 0; d < dims; ++d) {
        strip[row * dims + d] = logical[i * dims + d];
      }
    });
    return strip;
  }
  std::vector<float> Logical(const std::vector<float>& strip, int64_t dims,
                             int32_t page_tokens) const {
    std::vector<float> logical(sequences_ * kLength * dims);
    ForEachKey(page_tokens, [&](int64_t i, int64_t row) {
      for (int64_t d = 0; d < dims; ++d) {
        logical[i * dims + d] = strip[row * dims + d];
      }
    });
    return logical;
  }
  int64_t logical_keys() const { return sequences_ * kLength; }

  // A set of `top_k` positions for each query, ascending, then -1: every key
  // when there are few, else a spread that depends on the query.
  std::vector<int32_t> Selection(int64_t top_k) const {
    std::vector<int32_t> selected(queries() * top_k, -1);
    for (int64_t n = 0; n < queries(); ++n) {
      const int64_t seen = position_[n] + 1;
      for (int64_t j = 0; j < std::min(seen, top_k); ++j) {
        selected[n * top_k + j] =
            static_cast<int32_t>(seen <= top_k ? j : j * seen / top_k);
      }
    }
    return selected;
  }

  // The same as rows of the logical strip.
  reference::RowLists LogicalRows(const std::vector<int32_t>& selected,
                                  int64_t top_k) const {
    reference::RowLists rows(queries());
    for (int64_t n = 0; n < queries(); ++n) {
      for (int64_t j = 0; j < top_k; ++j) {
        const int32_t key = selected[n * top_k + j];
        if (key >= 0) {
          rows[n].push_back(static_cast<int32_t>(sequence_[n] * kLength + key));
        }
      }
    }
    return rows;
  }

 private:
  template <typename Body>
  void ForEachKey(int32_t page_tokens, Body body) const {
    for (int64_t s = 0; s < sequences_; ++s) {
      for (int64_t key = 0; key < kLength; ++key) {
        body(s * kLength + key, RowOf(s, key, page_tokens));
      }
    }
  }

  int64_t sequences_;
  std::vector<int32_t> sequence_;
  std::vector<int32_t> position_;
  std::vector<int32_t> blocks_;
};

}  // namespace temper

#endif  // KERNELS_OPS_TESTING_KEY_CASE_H_
