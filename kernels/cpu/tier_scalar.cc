// The scalar tier: plain loops, and the definition of every number. Built with
// -mfma so that an FMA is one instruction, with one rounding, that flushes
// denormals as the vector ones do.

#include <cstdint>

#include "kernels/cpu/tier.h"

namespace temper {
namespace {

// Adding this rounds to an integer, left in the low bits of the mantissa.
constexpr float kRound = 12582912.0f;  // 1.5 * 2^23

struct V16 {
  float lane[16];
};

V16 Load(const float* x) {
  V16 v;
  for (int j = 0; j < 16; ++j) v.lane[j] = x[j];
  return v;
}

V16 LoadPart(const float* x, int64_t n) {
  V16 v;
  for (int j = 0; j < 16; ++j) v.lane[j] = j < n ? x[j] : 0.0f;
  return v;
}

void Store(float* x, V16 v) {
  for (int j = 0; j < 16; ++j) x[j] = v.lane[j];
}

V16 FirstLanes(int64_t n, V16 a, V16 b) {
  for (int64_t j = n; j < 16; ++j) a.lane[j] = b.lane[j];
  return a;
}

void StorePart(float* x, int64_t n, V16 v) {
  for (int j = 0; j < n; ++j) x[j] = v.lane[j];
}

V16 Splat(float x) {
  V16 v;
  for (int j = 0; j < 16; ++j) v.lane[j] = x;
  return v;
}

V16 Add(V16 a, V16 b) {
  for (int j = 0; j < 16; ++j) a.lane[j] += b.lane[j];
  return a;
}

V16 Sub(V16 a, V16 b) {
  for (int j = 0; j < 16; ++j) a.lane[j] -= b.lane[j];
  return a;
}

V16 Mul(V16 a, V16 b) {
  for (int j = 0; j < 16; ++j) a.lane[j] *= b.lane[j];
  return a;
}

V16 Div(V16 a, V16 b) {
  for (int j = 0; j < 16; ++j) a.lane[j] /= b.lane[j];
  return a;
}

V16 Fma(V16 a, V16 b, V16 c) {
  for (int j = 0; j < 16; ++j) {
    a.lane[j] = __builtin_fmaf(a.lane[j], b.lane[j], c.lane[j]);
  }
  return a;
}

V16 Sqrt(V16 a) {
  for (int j = 0; j < 16; ++j) a.lane[j] = __builtin_sqrtf(a.lane[j]);
  return a;
}

V16 Max(V16 a, V16 b) {
  for (int j = 0; j < 16; ++j) {
    a.lane[j] = a.lane[j] > b.lane[j] ? a.lane[j] : b.lane[j];
  }
  return a;
}

V16 ZeroWhereLess(V16 a, V16 b, V16 x) {
  for (int j = 0; j < 16; ++j) {
    if (a.lane[j] < b.lane[j]) x.lane[j] = 0;
  }
  return x;
}

V16 HalfPowerOfTwo(V16 t) {
  constexpr uint32_t kRoundBits = 0x4b400000;  // of kRound
  for (int j = 0; j < 16; ++j) {
    uint32_t bits;
    __builtin_memcpy(&bits, &t.lane[j], sizeof(bits));
    bits = (bits - kRoundBits + 126) << 23;
    __builtin_memcpy(&t.lane[j], &bits, sizeof(bits));
  }
  return t;
}

float ReduceAdd(V16 v) {
  for (int half = 8; half >= 1; half /= 2) {
    for (int j = 0; j < half; ++j) v.lane[j] += v.lane[j + half];
  }
  return v.lane[0];
}

float ReduceMax(V16 v) {
  for (int half = 8; half >= 1; half /= 2) {
    for (int j = 0; j < half; ++j) {
      const float a = v.lane[j], b = v.lane[j + half];
      v.lane[j] = a > b ? a : b;
    }
  }
  return v.lane[0];
}

void Gemm(const GemmBlock& g) {
  for (int64_t first = 0; first < g.columns; first += 16) {
    const int64_t width = g.columns - first < 16 ? g.columns - first : 16;
    const float* panel = g.b + first / 16 * g.b_panel;
    for (int64_t i = 0; i < g.rows; ++i) {
      float* c = g.c + i * g.c_row + first;
      V16 chain = Splat(0);
      if (g.accumulate) chain = LoadPart(c, width);
      for (int64_t k = 0; k < g.depth; ++k) {
        const float a = g.a[i * g.a_row + k * g.a_k];
        const float* b = panel + 16 * k;
        for (int j = 0; j < 16; ++j) {
          chain.lane[j] = __builtin_fmaf(a, b[j], chain.lane[j]);
        }
      }
      StorePart(c, width, chain);
    }
  }
}

int64_t RowOf(const int32_t* index, int64_t i) {
  return index == nullptr ? i : index[i];
}

// Columns in runs, so that b is read along its rows.
void RowsProductOf(const RowsProduct& p) {
  constexpr int64_t kRun = 64;
  float chain[kRun];
  for (int64_t i = 0; i < p.m; ++i) {
    const float* a = p.a + i * p.a_row;
    for (int64_t first = 0; first < p.n; first += kRun) {
      const int64_t width = p.n - first < kRun ? p.n - first : kRun;
      float* y = p.y + RowOf(p.y_index, i) * p.y_row + first;
      for (int64_t c = 0; c < width; ++c) {
        chain[c] = p.into == Into::kContinue ? y[c] : 0.0f;
      }
      for (int64_t k = 0; k < p.k; ++k) {
        const float* b = p.b + RowOf(p.b_index, k) * p.b_row + first;
        const float factor = a[k * p.a_col];
        for (int64_t c = 0; c < width; ++c) {
          chain[c] = __builtin_fmaf(factor, b[c], chain[c]);
        }
      }
      for (int64_t c = 0; c < width; ++c) {
        y[c] = p.into == Into::kAdd ? y[c] + chain[c] : chain[c];
      }
    }
  }
}

void GatherTransposed(const float* keys, int64_t row_stride,
                      const int32_t* rows, int64_t count, int64_t dims,
                      float* out) {
  for (int64_t j = 0; j < count; ++j) {
    const float* key = keys + rows[j] * row_stride;
    for (int64_t d = 0; d < dims; ++d) out[d * kKeyBlock + j] = key[d];
  }
}

#include "kernels/cpu/tier_body.inc"

}  // namespace

void SetScalarKernels(TierKernels* kernels) {
  SetRowKernels(kernels);
  kernels->gemm = Gemm;
  kernels->rows_product = RowsProductOf;
  kernels->gather_transposed = GatherTransposed;
  SetScalarPairs(kernels);
  SetScalarCodes(kernels);
}

}  // namespace temper
