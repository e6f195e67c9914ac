// What a tier passes before it is used: its loops beside the definition's.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "kernels/cpu/code_check.h"
#include "kernels/cpu/cpu_tier.h"
#include "kernels/tensor/bf16.h"

namespace temper {
namespace {

constexpr int64_t kFloats = 160;
constexpr int64_t kLengths[] = {1, 7, 16, 33, 64, 70, 97, 160};

// Four inputs and four results of one kernel.
struct Case {
  std::vector<float> in[4];
  std::vector<float> out[4];
};

using Kernel = std::function<void(const TierKernels&, int64_t, Case*)>;

float Pseudo(uint32_t* state) {
  *state = *state * 1664525u + 1013904223u;
  return static_cast<float>(*state >> 8) * 0x1p-23f - 1.0f;
}

// Ordinary values with the edges among them; infinities only where asked for,
// since a long sum with them is no number whatever its order.
Case MakeCase(uint32_t seed, bool infinities) {
  constexpr float kEdges[] = {
      0.0f,      -0.0f,      0x1p-149f, -0x1p-149f, 0x1.8p-127f, -0x1.fp-127f,
      0x1p-126f, -0x1p-126f, 0x1p-75f,  0x1p-64f,   -0x1p-64f,   86.5f,
      -86.5f,    -86.51f,    88.7f,     88.8f,      89.5f,       -300.0f,
      300.0f,    0.34657f,   -0.34658f, 1e-20f,     -1e20f,      1.0f,
      HUGE_VALF, -HUGE_VALF};
  const size_t edges = std::size(kEdges) - (infinities ? 0 : 2);
  Case c;
  uint32_t state = seed;
  for (auto& in : c.in) {
    in.resize(kFloats);
    for (float& x : in) {
      const float value = Pseudo(&state);
      const bool edge = (state >> 16) % 3 == 0;
      x = edge ? kEdges[(state >> 20) % edges] : 2 * value;
    }
  }
  for (auto& out : c.out) out.assign(kFloats, 0.5f);
  return c;
}

using NamedKernels = std::vector<std::pair<const char*, Kernel>>;

NamedKernels ElementKernels() {
  using T = const TierKernels&;
  return {
      {"dot",
       [](T t, int64_t n, Case* c) {
         c->out[0][0] = t.dot(c->in[0].data(), c->in[1].data(), n);
       }},
      {"sum", [](T t, int64_t n,
                 Case* c) { c->out[0][0] = t.sum(c->in[0].data(), n); }},
      {"max", [](T t, int64_t n,
                 Case* c) { c->out[0][0] = t.max(c->in[0].data(), n); }},
      {"order and count_at_least",
       [](T t, int64_t n, Case* c) {
         constexpr int64_t kKeys = (kFloats + kKeyBlock - 1) / kKeyBlock;
         std::vector<uint32_t> keys(kKeys * kKeyBlock);
         t.order(c->in[0].data(), keys.data(), n);
         std::memcpy(c->out[0].data(), keys.data(), n * sizeof(float));
         const int64_t whole = (n + kKeyBlock - 1) / kKeyBlock * kKeyBlock;
         for (int64_t i = 0; i < n; ++i) {
           c->out[1][i] = static_cast<float>(
               t.count_at_least(keys.data(), whole, keys[i]));
         }
       }},
      {"add", [](T t, int64_t n,
                 Case* c) { t.add(c->in[0].data(), c->in[1].data(), n); }},
      {"scale",
       [](T t, int64_t n, Case* c) { t.scale(0.3f, c->in[0].data(), n); }},
      {"divide",
       [](T t, int64_t n, Case* c) { t.divide(0.3f, c->in[0].data(), n); }},
      {"axpy",
       [](T t, int64_t n, Case* c) {
         t.axpy(-1.7f, c->in[0].data(), c->in[1].data(), n);
       }},
      {"relu_axpy",
       [](T t, int64_t n, Case* c) {
         t.relu_axpy(0.7f, c->in[0].data(), c->in[1].data(), n);
       }},
      {"exp_sum",
       [](T t, int64_t n, Case* c) {
         c->out[1][0] = t.exp_sum(c->in[0].data(), 0.25f, c->out[0].data(), n);
         t.exp(c->in[0].data(), 0, c->out[2].data(), n);
       }},
      {"softmax_block",
       [](T t, int64_t n, Case* c) {
         RunningSoftmax run;
         for (int64_t i = 0; i < n; i += kKeyBlock) {
           c->out[0][i / kKeyBlock] = t.softmax_block(
               0.3f, c->in[0].data() + i, std::min(kKeyBlock, n - i), &run);
         }
         c->out[1][0] = run.largest;
         c->out[1][1] = run.sum;
       }},
      {"softmax_grad",
       [](T t, int64_t n, Case* c) {
         t.softmax_grad(c->in[0].data(), 0.7f, 0.3f, c->in[1].data(), n);
       }},
      {"sigmoid",
       [](T t, int64_t n, Case* c) {
         t.sigmoid(c->in[0].data(), c->out[0].data(), n);
       }},
      {"swiglu",
       [](T t, int64_t n, Case* c) {
         t.swiglu(c->in[0].data(), c->in[1].data(), c->out[0].data(), n);
         t.swiglu_backward(c->in[0].data(), c->in[1].data(), c->in[2].data(),
                           c->out[1].data(), c->out[2].data(), n);
       }},
  };
}

NamedKernels NormAndUpdateKernels() {
  using T = const TierKernels&;
  return {
      {"rms_norm",
       [](T t, int64_t n, Case* c) {
         const float r = t.rms_inverse(c->in[0].data(), 1e-6f, n);
         c->out[3][0] = r;
         t.rms_norm(c->in[0].data(), c->in[1].data(), r, c->out[0].data(), n);
         t.rms_norm_backward(c->in[0].data(), c->in[1].data(), r,
                             c->in[2].data(), c->out[1].data(), n);
         t.norm_weight_grad(c->in[0].data(), 0, r, c->in[2].data(),
                            c->out[2].data(), n);
       }},
      {"layer_norm",
       [](T t, int64_t n, Case* c) {
         const float mean = t.mean(c->in[0].data(), n);
         const float r = t.layer_inverse(c->in[0].data(), mean, 1e-6f, n);
         c->out[3][0] = r;
         t.layer_norm(c->in[0].data(), c->in[1].data(), c->in[2].data(), mean,
                      r, c->out[0].data(), n);
         t.layer_norm_backward(c->in[0].data(), c->in[1].data(), mean, r,
                               c->in[2].data(), c->out[1].data(), n);
       }},
      {"rotate",
       [](T t, int64_t n, Case* c) {
         t.rotate(c->in[0].data(), c->in[1].data(), c->in[2].data(),
                  c->in[3].data(), n);
       }},
      {"adamw",
       [](T t, int64_t n, Case* c) {
         for (float& x : c->in[3]) x = std::fabs(x);
         t.adamw({0.9f, 0.1f, 0.95f, 0.05f, 0.01f, 1.5f, 1e-8f, 0.001f, 0.5f},
                 c->in[0].data(), c->in[1].data(), c->in[2].data(),
                 c->in[3].data(), n);
       }},
  };
}

// Whether the same bits, or both NaN (whose payload is not defined).
bool Same(const std::vector<float>& x, const std::vector<float>& y) {
  for (size_t i = 0; i < x.size(); ++i) {
    if (std::isnan(x[i]) && std::isnan(y[i])) continue;
    if (std::memcmp(&x[i], &y[i], sizeof(float)) != 0) return false;
  }
  return true;
}

absl::Status Differs(const std::string& tier, const std::string& kernel) {
  return absl::FailedPreconditionError(
      absl::StrCat("CPU tier ", tier, " does not reproduce the scalar tier in ",
                   kernel, "; use another tier or report this CPU"));
}

// The loops over one length.
absl::Status CheckRowKernels(const std::string& name, const TierKernels& tier,
                             const TierKernels& definition) {
  uint32_t seed = 1;
  NamedKernels kernels = ElementKernels();
  for (const auto& kernel : NormAndUpdateKernels()) kernels.push_back(kernel);
  for (const auto& [kernel_name, kernel] : kernels) {
    for (const int64_t n : kLengths) {
      for (const bool infinities : {false, true}) {
        Case actual = MakeCase(++seed, infinities);
        Case expected = actual;
        kernel(tier, n, &actual);
        kernel(definition, n, &expected);
        for (int i = 0; i < 4; ++i) {
          if (!Same(actual.in[i], expected.in[i]) ||
              !Same(actual.out[i], expected.out[i])) {
            return Differs(name, absl::StrCat(kernel_name, " of ", n));
          }
        }
      }
    }
  }
  return absl::OkStatus();
}

// `count` ordinary values, every `tiny_every`th so small that its products
// are denormal or flushed, and one infinity.
std::vector<float> ProductOperand(uint32_t seed, int64_t count,
                                  int64_t tiny_every) {
  std::vector<float> values(count);
  for (float& x : values) x = Pseudo(&seed);
  for (int64_t i = 0; i < count; i += tiny_every) values[i] *= 0x1p-70f;
  values[count / 2] = 0x1p-140f;
  values[count / 5] = HUGE_VALF;
  return values;
}

// Row kZeros of a product's a is all -0, column kZeros of its b positive, of
// its sums -0: products of -0 throughout, which no other sign of a zero may
// join.
constexpr int64_t kZeros = 3;

constexpr int64_t kGemmDepth = 29;

// rows x columns over depth, with a stride to spare everywhere: stored over c,
// and added onto it.
std::vector<float> RunGemm(const TierKernels& tier, int64_t rows,
                           int64_t columns, bool transposed,
                           const std::vector<float>& a,
                           const std::vector<float>& b,
                           const std::vector<float>& c) {
  std::vector<float> out;
  for (const bool accumulate : {false, true}) {
    std::vector<float> sums = c;
    tier.gemm({.rows = rows,
               .columns = columns,
               .depth = kGemmDepth,
               .a = a.data(),
               .a_row = transposed ? 1 : 31,
               .a_k = transposed ? 31 : 1,
               .b = b.data(),
               .b_panel = 16 * kGemmDepth,
               .c = sums.data(),
               .c_row = 83,
               .accumulate = accumulate});
    out.insert(out.end(), sums.begin(), sums.end());
  }
  return out;
}

absl::Status CheckGemm(const std::string& name, const TierKernels& tier,
                       const TierKernels& definition) {
  std::vector<float> a = ProductOperand(2, 31 * 31, 7);
  std::vector<float> b = ProductOperand(3, 5 * 16 * kGemmDepth, 5);
  std::vector<float> c(13 * 83, 1.0f);
  for (int64_t k = 0; k < 31; ++k) {
    a[kZeros * 31 + k] = a[k * 31 + kZeros] = -0.0f;  // read either way
  }
  for (int64_t k = 0; k < kGemmDepth; ++k) {
    b[k * 16 + kZeros] = std::fabs(b[k * 16 + kZeros]);
  }
  c[kZeros * 83 + kZeros] = -0.0f;
  for (const bool transposed : {false, true}) {
    for (const int64_t rows : {1, 2, 3, 4, 5, 6, 7, 13}) {
      for (const int64_t columns : {1, 16, 37, 64, 80}) {
        if (!Same(RunGemm(tier, rows, columns, transposed, a, b, c),
                  RunGemm(definition, rows, columns, transposed, a, b, c))) {
          return Differs(name, absl::StrCat("gemm of ", rows, " x ", columns));
        }
      }
    }
  }
  return absl::OkStatus();
}

// Rows of b and y found through an index, columns of a read across.
absl::Status CheckRowsProduct(const std::string& name, const TierKernels& tier,
                              const TierKernels& definition) {
  std::vector<float> a = ProductOperand(4, 9 * 24, 7);
  std::vector<float> b = ProductOperand(5, 24 * 83, 5);
  std::vector<float> y(24 * 83, 1.0f);
  for (int64_t k = 0; k < 24; ++k) {
    a[kZeros * 24 + k] = a[k * 9 + kZeros] = -0.0f;
    b[k * 83 + kZeros] = std::fabs(b[k * 83 + kZeros]);
    y[k * 83 + kZeros] = -0.0f;
  }
  constexpr int32_t kIndex[] = {22, 1, 7, 0, 23, 5, 4, 11, 3, 17, 19, 2, 8};
  const auto run = [&](const TierKernels& kernels, int64_t m, int64_t n,
                       bool indexed) {
    std::vector<float> out;
    for (const Into into : {Into::kStore, Into::kContinue, Into::kAdd}) {
      std::vector<float> sums = y;
      kernels.rows_product({.a = a.data(),
                            .a_row = indexed ? 24 : 1,
                            .a_col = indexed ? 1 : 9,
                            .b = b.data(),
                            .b_row = 83,
                            .b_index = indexed ? kIndex : nullptr,
                            .y = sums.data(),
                            .y_row = 83,
                            .y_index = indexed ? kIndex : nullptr,
                            .m = m,
                            .k = 13,
                            .n = n,
                            .into = into});
      out.insert(out.end(), sums.begin(), sums.end());
    }
    return out;
  };
  for (const bool indexed : {false, true}) {
    for (const int64_t m : {1, 2, 3, 4, 9}) {
      for (const int64_t n : {1, 8, 13, 16, 37, 64, 83}) {
        if (!Same(run(tier, m, n, indexed), run(definition, m, n, indexed))) {
          return Differs(name, absl::StrCat("rows_product of ", m, " x ", n));
        }
      }
    }
  }
  return absl::OkStatus();
}

absl::Status CheckGather(const std::string& name, const TierKernels& tier,
                         const TierKernels& definition) {
  const std::vector<float> keys = ProductOperand(6, 70 * 29, 7);
  std::vector<int32_t> rows(kKeyBlock);
  for (int64_t j = 0; j < kKeyBlock; ++j) {
    rows[j] = static_cast<int32_t>(j * 37 % 70);
  }
  for (const int64_t dims : {1, 8, 21, 29}) {
    for (const int64_t count : {1, 7, 8, 17, 64}) {
      std::vector<float> actual(29 * kKeyBlock, 1.0f), expected = actual;
      tier.gather_transposed(keys.data(), 29, rows.data(), count, dims,
                             actual.data());
      definition.gather_transposed(keys.data(), 29, rows.data(), count, dims,
                                   expected.data());
      if (!Same(actual, expected)) {
        return Differs(
            name, absl::StrCat("gather_transposed of ", count, " x ", dims));
      }
    }
  }
  return absl::OkStatus();
}

// What a tier's packers and its product of pairs make of one shape, one after
// another; the padding is part of it, columns that nobody asked for are not.
struct PairCase {
  int64_t rows, columns, depth;
  bool down;  // a is read down its columns
};

std::vector<float> RunPairs(const TierKernels& tier, const PairCase& c,
                            const std::vector<float>& a,
                            const std::vector<float>& b) {
  const int64_t padded = (c.depth + kPairBlock - 1) / kPairBlock * kPairBlock;
  const int64_t panel = padded / 2 * 16;
  std::vector<uint16_t> narrow(b.size());
  tier.round_bf16(b.data(), narrow.data(), static_cast<int64_t>(b.size()));
  std::vector<float> out(narrow.size());
  tier.widen_bf16(narrow.data(), out.data(),
                  static_cast<int64_t>(narrow.size()));
  std::vector<int32_t> index(std::max(c.depth, c.columns));
  for (size_t k = 0; k < index.size(); ++k) {
    index[k] = static_cast<int32_t>(index.size() - 1 - k);
  }
  std::vector<uint32_t> rows(5 * panel), floats(5 * panel);
  std::vector<uint32_t> keys(padded / 2 * kKeyBlock);
  tier.pair_rows(narrow.data(), c.columns,
                 index.data() + index.size() - c.depth, c.depth, c.columns,
                 rows.data(), panel);
  tier.pair_floats(b.data(), c.columns, c.depth, c.columns, floats.data(),
                   panel);
  tier.pair_keys(narrow.data(), c.depth,
                 index.data() + index.size() - c.columns, c.columns, c.depth,
                 keys.data());
  const int64_t row = padded * 4 + 64;
  std::vector<float> packed(c.rows * row / 4);
  tier.pack_a(a.data(), c.down ? 1 : c.depth, c.down ? c.rows : 1, c.rows,
              c.depth, packed.data(), row);
  std::vector<float> sums(c.rows * c.columns, 0.75f);
  for (const Into into : {Into::kStore, Into::kContinue, Into::kAdd}) {
    for (const auto* from : {&rows, &floats, &keys}) {
      tier.pair_product({.rows = c.rows,
                         .columns = c.columns,
                         .depth = c.depth,
                         .a = packed.data(),
                         .a_row = row,
                         .b = from->data(),
                         .b_panel = from == &keys ? 16 : panel,
                         .b_pair = from == &keys ? kKeyBlock : 16,
                         .c = sums.data(),
                         .c_row = c.columns,
                         .into = into});
      out.insert(out.end(), sums.begin(), sums.end());
    }
  }
  return out;
}

// Every code of bf16, and every tie between two with its neighbours, against
// the one home of rounding.
absl::Status CheckRounding(const std::string& name, const TierKernels& tier) {
  constexpr uint32_t kRest[] = {0, 0x7fff, 0x8000, 0x8001, 0xffff};
  constexpr int64_t kCodes = 1 << 16;
  std::vector<uint16_t> codes(kCodes);
  std::vector<float> floats(kCodes);
  for (int64_t i = 0; i < kCodes; ++i) codes[i] = static_cast<uint16_t>(i);
  tier.widen_bf16(codes.data(), floats.data(), kCodes);
  for (int64_t i = 0; i < kCodes; ++i) {
    const float want = FloatFromBF16({codes[i]});
    if (std::isnan(want) ? !std::isnan(floats[i])
                         : std::memcmp(&floats[i], &want, sizeof(want)) != 0) {
      return Differs(name, absl::StrCat("widen_bf16 of ", codes[i]));
    }
  }
  for (const uint32_t rest : kRest) {
    for (int64_t i = 0; i < kCodes; ++i) {
      const uint32_t bits = static_cast<uint32_t>(i) << 16 | rest;
      std::memcpy(&floats[i], &bits, sizeof(float));
    }
    tier.round_bf16(floats.data(), codes.data(), kCodes);
    for (int64_t i = 0; i < kCodes; ++i) {
      if (codes[i] != BF16FromFloat(floats[i]).bits) {
        return Differs(name, absl::StrCat("round_bf16 of ", floats[i]));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status CheckPairs(const std::string& name, const TierKernels& tier,
                        const TierKernels& definition) {
  constexpr float kEdges[] = {0.0f,     -0.0f,       0x1p-140f, -0x1.8p-127f,
                              0x1p-66f, -0x1p-64f,   0x1p-126f, 1.00390625f,
                              1e30f,    1.01171875f, HUGE_VALF};
  std::vector<float> a = ProductOperand(7, 40 * 70, 9);
  std::vector<float> b = ProductOperand(8, 70 * 64, 7);
  for (size_t i = 0; i < std::size(kEdges); ++i) {
    a[31 * i] = kEdges[i];
    b[17 * i] = kEdges[i];
  }
  for (const PairCase& c :
       {PairCase{1, 64, 33, false}, PairCase{2, 37, 70, true},
        PairCase{7, 16, 31, false}, PairCase{13, 33, 64, true},
        PairCase{40, 50, 1, true}, PairCase{33, 17, 40, false}}) {
    if (!Same(RunPairs(tier, c, a, b), RunPairs(definition, c, a, b))) {
      return Differs(name, absl::StrCat("pairs of ", c.rows, " x ", c.columns,
                                        " x ", c.depth));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status SelfTestTier(const std::string& name, const TierKernels& kernels) {
  const TierKernels definition = KernelsOf(CpuTiers().front());
  RETURN_IF_ERROR(CheckRowKernels(name, kernels, definition));
  RETURN_IF_ERROR(CheckGemm(name, kernels, definition));
  RETURN_IF_ERROR(CheckRowsProduct(name, kernels, definition));
  RETURN_IF_ERROR(CheckGather(name, kernels, definition));
  RETURN_IF_ERROR(CheckRounding(name, kernels));
  for (const std::string& codes :
       {DifferenceInCodes(kernels),
        DifferenceInCodeProducts(kernels, definition)}) {
    if (!codes.empty()) return Differs(name, codes);
  }
  return CheckPairs(name, kernels, definition);
}

}  // namespace temper
