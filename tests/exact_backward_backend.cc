#include "tests/exact_backward_backend.h"

#include <cmath>
#include <cstring>

#include "kernels/base/log.h"
#include "kernels/ops/cache_rows.h"
#include "kernels/reference/arithmetic.h"
#include "kernels/reference/attention.h"
#include "kernels/reference/quantised.h"
#include "kernels/tensor/bf16.h"
#include "kernels/tensor/fp8.h"

namespace temper {
namespace {

using Doubles = std::vector<double>;

double At(const Tensor& x, int64_t offset) {
  return x.dtype() == DType::kBF16 ? FloatFromBF16(x.as<BF16>()[offset])
                                   : x.as<float>()[offset];
}

// Row-major, of up to three axes.
Doubles Values(const Tensor& x) {
  CHECK(x.rank() >= 1 && x.rank() <= 3) << x.DebugString();
  const auto dim = [&](int axis) { return axis < x.rank() ? x.dim(axis) : 1; };
  const auto stride = [&](int axis) {
    return axis < x.rank() ? x.stride(axis) : 0;
  };
  Doubles values;
  for (int64_t i = 0; i < dim(0); ++i) {
    for (int64_t j = 0; j < dim(1); ++j) {
      for (int64_t k = 0; k < dim(2); ++k) {
        values.push_back(At(x, i * stride(0) + j * stride(1) + k * stride(2)));
      }
    }
  }
  return values;
}

// As a product in `operand` takes them.
Doubles Operands(const Tensor& x, DType operand) {
  Doubles values = Values(x);
  if (operand == DType::kF32) return values;
  if (operand == DType::kF8E4M3) {
    const std::vector<float> rows =
        reference::QuantiseRows({values.begin(), values.end()}, x.dim(-1))
            .Dequantised();
    return {rows.begin(), rows.end()};
  }
  for (double& value : values) {
    value = reference::RoundToBf16(static_cast<float>(value));
  }
  return values;
}

// Into f32, row-major over the same axes.
void Store(const Doubles& values, bool onto, const Tensor& to) {
  const int64_t columns = to.dim(-1);
  const bool grouped = to.rank() == 3;
  for (int64_t at = 0; at < to.elements(); ++at) {
    const int64_t row = at / columns;
    const int64_t offset =
        grouped
            ? row / to.dim(1) * to.stride(0) + row % to.dim(1) * to.stride(1) +
                  at % columns * to.stride(2)
            : row * to.stride(0) + at % columns * to.stride(1);
    float* const cell = to.as<float>() + offset;
    *cell = static_cast<float>(onto ? *cell + values[at] : values[at]);
  }
}

// dw [out, in] += sum_n dy[n, out] x[n, in].
void AddOuter(const Doubles& x, const Doubles& dy, const Tensor& dw,
              int64_t out, int64_t in) {
  Doubles sum(out * in);
  const auto rows = static_cast<int64_t>(x.size()) / in;
  for (int64_t n = 0; n < rows; ++n) {
    for (int64_t o = 0; o < out; ++o) {
      for (int64_t i = 0; i < in; ++i) {
        sum[o * in + i] += dy[n * out + o] * x[n * in + i];
      }
    }
  }
  Store(sum, /*onto=*/true, dw);
}

template <typename T>
T Unaligned(const uint8_t* at) {
  T value;
  std::memcpy(&value, at, sizeof(value));
  return value;
}

const uint8_t* Bytes(const Tensor& x, int64_t row) {
  return &x.as<F8E4M3>()[row * x.stride(0)].bits;
}

// Rows of a latent strip, `rope` columns of them rotary
// (kernels/ops/cache_rows.h).
Doubles Latents(const Tensor& keys, int64_t columns, int64_t rope) {
  if (keys.dtype() != DType::kF8E4M3) return Values(keys);
  const int64_t latent = columns - rope;
  Doubles values;
  for (int64_t row = 0; row < keys.dim(0); ++row) {
    const uint8_t* const codes = Bytes(keys, row);
    const uint8_t* const scales = codes + latent;
    for (int64_t k = 0; k < latent; ++k) {
      values.push_back(double{FloatFromE4M3({codes[k]})} *
                       Unaligned<float>(scales + 4 * (k / kScaleBlock)));
    }
    const uint8_t* const tail = scales + 4 * ScaleBlocks(latent);
    for (int64_t k = 0; k < rope; ++k) {
      values.push_back(FloatFromBF16(Unaligned<BF16>(tail + 2 * k)));
    }
  }
  return values;
}

// The first `rows` of the indexer's keys.
Doubles IndexKeys(const Tensor& keys, int64_t rows, int64_t dims) {
  if (keys.dtype() != DType::kF8E4M3) return Values(keys);
  Doubles values;
  for (int64_t row = 0; row < rows; ++row) {
    const uint8_t* const page = Bytes(keys, row / kIndexPageRows);
    const int64_t in_page = row % kIndexPageRows;
    const auto scale =
        Unaligned<float>(page + kIndexPageRows * dims + 4 * in_page);
    for (int64_t k = 0; k < dims; ++k) {
      values.push_back(double{FloatFromE4M3({page[in_page * dims + k]})} *
                       scale);
    }
  }
  return values;
}

// What the operands of attention are rounded to, by its keys.
DType QueriesIn(const Tensor& keys) {
  return keys.dtype() == DType::kF8E4M3 ? DType::kBF16 : keys.dtype();
}

// The rows of the keys that each query has selected.
reference::RowLists RowsOf(const KeyMap& map, const Tensor& selected) {
  reference::RowLists rows;
  const int64_t blocks_max = map.blocks.dim(1);
  for (int64_t n = 0; n < selected.dim(0); ++n) {
    rows.emplace_back();
    const int32_t* const blocks =
        map.blocks.as<int32_t>() + map.sequence.as<int32_t>()[n] * blocks_max;
    for (int64_t j = 0; j < selected.dim(1); ++j) {
      const int32_t key = selected.as<int32_t>()[n * selected.dim(1) + j];
      if (key < 0) break;
      rows.back().push_back(blocks[key / map.page_tokens] * map.page_tokens +
                            key % map.page_tokens);
    }
  }
  return rows;
}

double Dot(const double* a, const double* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

}  // namespace

void ExactBackwardBackend::SetWeight(const Tensor& values, Weight* weight) {
  ForwardingBackend::SetWeight(values, weight);
  weights_[weight] = {values.dim(1), values.dim(2), Values(values)};
}

void ExactBackwardBackend::SetQuantisedWeight(const Tensor& codes,
                                              const Tensor& scales,
                                              Weight* weight) {
  ForwardingBackend::SetQuantisedWeight(codes, scales, weight);
  std::vector<float> values(codes.elements());
  DequantiseWeight(codes, scales,
                   Tensor(values.data(), DType::kF32,
                          {codes.dim(0), codes.dim(1), codes.dim(2)}));
  weights_[weight] = {
      codes.dim(1), codes.dim(2), {values.begin(), values.end()}};
}

void ExactBackwardBackend::Multiply(const Tensor& x, const Weight& w,
                                    int64_t group, Use use,
                                    const Tensor& y) const {
  const Matrices& m = weights_.at(&w);
  const double* const matrix = m.values.data() + group * m.out * m.in;
  const bool forward = use == Use::kForward;
  const int64_t from = forward ? m.in : m.out, to = forward ? m.out : m.in;
  const Doubles rows = Values(x);
  Doubles result;
  for (size_t begin = 0; begin < rows.size(); begin += from) {
    for (int64_t j = 0; j < to; ++j) {
      double sum = 0;
      for (int64_t k = 0; k < from; ++k) {
        sum += rows[begin + k] * matrix[forward ? j * from + k : k * to + j];
      }
      result.push_back(sum);
    }
  }
  Store(result, /*onto=*/false, y);
}

void ExactBackwardBackend::ForEachGroup(
    const Tensor& offsets,
    absl::FunctionRef<void(int64_t, int64_t, int64_t)> body) const {
  const int32_t* const at = offsets.as<int32_t>();
  for (int64_t e = 0; e + 1 < offsets.dim(0); ++e) {
    if (at[e] < at[e + 1]) body(e, at[e], at[e + 1]);
  }
}

void ExactBackwardBackend::Linear(const Tensor& x, const Weight& w, Use use,
                                  const Tensor& y) {
  if (!exact()) return ForwardingBackend::Linear(x, w, use, y);
  Multiply(x, w, 0, use, y);
}

void ExactBackwardBackend::HeadLinear(const Tensor& x, const Weight& w, Use use,
                                      const Tensor& y) {
  if (!exact()) {
    if (phase_ == Phase::kForward) head_operands_.insert(x.data());
    return ForwardingBackend::HeadLinear(x, w, use, y);
  }
  for (int64_t g = 0; g < x.dim(1); ++g) {
    Multiply(x.Slice(1, g, g + 1), w, g, use, y.Slice(1, g, g + 1));
  }
}

void ExactBackwardBackend::GroupedLinear(const GroupedLinearArgs& args) {
  if (!exact()) return ForwardingBackend::GroupedLinear(args);
  ForEachGroup(args.offsets, [&](int64_t e, int64_t begin, int64_t end) {
    Multiply(args.x.Slice(0, begin, end), *args.w, e, args.use,
             args.y.Slice(0, begin, end));
  });
}

void ExactBackwardBackend::LinearWeightGrad(const WeightGradArgs& args) {
  if (!exact()) return ForwardingBackend::LinearWeightGrad(args);
  AddOuter(Operands(args.x, args.operand), Values(args.dy), args.dw,
           args.dw.dim(0), args.dw.dim(1));
}

void ExactBackwardBackend::HeadLinearWeightGrad(const WeightGradArgs& args) {
  if (!exact()) return ForwardingBackend::HeadLinearWeightGrad(args);
  const bool x_is = head_operands_.count(args.x.data()) > 0;
  CHECK_NE(x_is, head_operands_.count(args.dy.data()) > 0);
  for (int64_t g = 0; g < args.dw.dim(0); ++g) {
    const Tensor x = args.x.Slice(1, g, g + 1), dy = args.dy.Slice(1, g, g + 1);
    AddOuter(x_is ? Operands(x, args.operand) : Values(x),
             x_is ? Values(dy) : Operands(dy, args.operand),
             args.dw.Slice(0, g, g + 1), args.dw.dim(1), args.dw.dim(2));
  }
}

void ExactBackwardBackend::GroupedLinearWeightGrad(
    const GroupedLinearWeightGradArgs& args) {
  if (!exact()) return ForwardingBackend::GroupedLinearWeightGrad(args);
  ForEachGroup(args.offsets, [&](int64_t e, int64_t begin, int64_t end) {
    AddOuter(Operands(args.x.Slice(0, begin, end), args.operand),
             Values(args.dy.Slice(0, begin, end)), args.dw.Slice(0, e, e + 1),
             args.dw.dim(1), args.dw.dim(2));
  });
}

void ExactBackwardBackend::SparseMlaBackward(
    const SparseMlaBackwardArgs& args) {
  if (!exact()) return ForwardingBackend::SparseMlaBackward(args);
  const int64_t latent = args.z.dim(2);
  Doubles dq, dkeys(args.dkeys.elements());
  reference::MlaBackward<double>(
      {args.q.dim(1), latent, args.q.dim(2) - latent, args.scale},
      Operands(args.q, QueriesIn(args.keys)),
      Latents(args.keys, args.q.dim(2), args.q.dim(2) - latent),
      RowsOf(args.map, args.selected), Values(args.z), Values(args.lse),
      Values(args.dz), &dq, &dkeys);
  for (double& x : dq) x *= spoiled_by_;
  Store(dq, /*onto=*/false, args.dq);
  Store(dkeys, /*onto=*/true, args.dkeys);
}

namespace {

// The operands of the indexer's KL loss, and what its gradient is added to.
struct KlTerms {
  explicit KlTerms(const IndexerKlBackwardArgs& args)
      : heads(args.q.dim(1)),
        width(args.q.dim(2)),
        index_heads(args.index_q.dim(1)),
        dims(args.index_q.dim(2)),
        scale(args.scale),
        q(Operands(args.q, QueriesIn(args.keys))),
        keys(Latents(args.keys, width, args.rope)),
        lse(Values(args.lse)),
        index_q(Operands(args.index_q, args.index_keys.dtype())),
        index_w(Values(args.index_w)),
        index_keys(IndexKeys(args.index_keys, args.keys.dim(0), dims)),
        dq(index_q.size()),
        dw(index_w.size()),
        dkeys(index_keys.size()) {}

  // The mean over the heads of attention's probability of a key.
  double Target(int64_t n, int32_t row) const {
    double sum = 0;
    for (int64_t h = n * heads; h < (n + 1) * heads; ++h) {
      const double s = scale * Dot(&q[h * width], &keys[row * width], width);
      sum += std::exp(s - lse[h]);
    }
    return sum / static_cast<double>(heads);
  }
  double Product(int64_t h, int32_t row) const {
    return Dot(&index_q[h * dims], &index_keys[row * dims], dims);
  }
  double Score(int64_t n, int32_t row) const {
    double sum = 0;
    for (int64_t h = n * index_heads; h < (n + 1) * index_heads; ++h) {
      sum += index_w[h] * std::fmax(Product(h, row), 0);
    }
    return sum;
  }
  void AddGradient(int64_t n, int32_t row, double dscore) {
    for (int64_t h = n * index_heads; h < (n + 1) * index_heads; ++h) {
      const double product = Product(h, row);
      if (product <= 0) continue;
      dw[h] += dscore * product;
      for (int64_t d = 0; d < dims; ++d) {
        dq[h * dims + d] += dscore * index_w[h] * index_keys[row * dims + d];
        dkeys[row * dims + d] += dscore * index_w[h] * index_q[h * dims + d];
      }
    }
  }

  const int64_t heads, width, index_heads, dims;
  const double scale;
  const Doubles q, keys, lse, index_q, index_w, index_keys;
  Doubles dq, dw, dkeys;
};

}  // namespace

void ExactBackwardBackend::IndexerKlBackward(
    const IndexerKlBackwardArgs& args) {
  if (!exact()) return ForwardingBackend::IndexerKlBackward(args);
  KlTerms terms(args);
  const Doubles dkl = Values(args.dkl);
  const reference::RowLists rows = RowsOf(args.map, args.selected);
  for (int64_t n = 0; n < static_cast<int64_t>(rows.size()); ++n) {
    Doubles score;
    for (const int32_t row : rows[n]) score.push_back(terms.Score(n, row));
    reference::SoftmaxInPlace(&score);
    for (size_t j = 0; j < rows[n].size(); ++j) {
      const int32_t row = rows[n][j];
      terms.AddGradient(n, row, dkl[n] * (score[j] - terms.Target(n, row)));
    }
  }
  Store(terms.dq, /*onto=*/false, args.dindex_q);
  Store(terms.dw, /*onto=*/false, args.dindex_w);
  Store(terms.dkeys, /*onto=*/true, args.dindex_keys);
}

// Of rows over the whole vocabulary.
void ExactBackwardBackend::LogProbBackward(const LogProbBackwardArgs& args) {
  if (!exact()) return ForwardingBackend::LogProbBackward(args);
  const Matrices& w = weights_.at(args.w);
  const Doubles x = Operands(args.x, args.rows.dtype());
  const Doubles lse = Values(args.lse), dlogp = Values(args.dlogp);
  Doubles dx(x.size()), dw(w.values.size());
  for (size_t n = 0; n < lse.size(); ++n) {
    CHECK_EQ(args.kept_offsets.as<int32_t>()[n + 1], 0);
    for (int64_t v = 0; v < w.out; ++v) {
      const double* const row = &w.values[v * w.in];
      const double p =
          std::exp(Dot(&x[n * w.in], row, w.in) / args.temperature - lse[n]);
      const double target = args.targets.as<int32_t>()[n] == v ? 1 : 0;
      const double dz = dlogp[n] * (target - p) / args.temperature;
      for (int64_t i = 0; i < w.in; ++i) {
        dx[n * w.in + i] += dz * row[i];
        dw[v * w.in + i] += dz * x[n * w.in + i];
      }
    }
  }
  Store(dx, /*onto=*/false, args.dx);
  Store(dw, /*onto=*/true, args.dw);
}

}  // namespace temper
