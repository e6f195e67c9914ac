#include "kernels/cpu/machine_peak.h"

#include <immintrin.h>

#include <atomic>

#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "kernels/cpu/cpu_tier.h"

namespace temper {
namespace {

// Two units of a latency of four or five cycles are full with ten chains.
constexpr int kChains = 12;
constexpr int64_t kRounds = 100'000;

// Takes what chains and sums end in, so that no compiler leaves them out.
std::atomic<float> sink;

// x = x / 2 + 1/2 stays near 1, far from denormals. The functions are compiled
// for the registers they use, this file is not: none is inline, so none can
// stand in for another's.
__attribute__((target("fma"))) float ScalarChains(int64_t rounds) {
  __m128 chain[kChains];
  for (auto& x : chain) x = _mm_set_ss(0.5f);
  const __m128 half = _mm_set_ss(0.5f);
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (auto& x : chain) x = _mm_fmadd_ss(x, half, half);
  }
  float sum = 0;
  for (const auto& x : chain) sum += _mm_cvtss_f32(x);
  return sum;
}

__attribute__((target("avx2,fma"))) float Avx2Chains(int64_t rounds) {
  __m256 chain[kChains];
  for (auto& x : chain) x = _mm256_set1_ps(0.5f);
  const __m256 half = _mm256_set1_ps(0.5f);
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (auto& x : chain) x = _mm256_fmadd_ps(x, half, half);
  }
  float sum = 0;
  for (const auto& x : chain) sum += _mm256_cvtss_f32(x);
  return sum;
}

__attribute__((target("avx512f"))) float Avx512Chains(int64_t rounds) {
  __m512 chain[kChains];
  for (auto& x : chain) x = _mm512_set1_ps(0.5f);
  const __m512 half = _mm512_set1_ps(0.5f);
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (auto& x : chain) x = _mm512_fmadd_ps(x, half, half);
  }
  float sum = 0;
  for (const auto& x : chain) sum += _mm512_cvtss_f32(x);
  return sum;
}

__attribute__((target("avx512f,avx512bf16"))) float PairChains(int64_t rounds) {
  __m512 chain[kChains];
  for (auto& x : chain) x = _mm512_set1_ps(0.5f);
  const __m512bh tiny =
      _mm512_cvtne2ps_pbh(_mm512_set1_ps(0x1p-20f), _mm512_set1_ps(0x1p-20f));
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (auto& x : chain) x = _mm512_dpbf16_ps(x, tiny, tiny);
  }
  float sum = 0;
  for (const auto& x : chain) sum += _mm512_cvtss_f32(x);
  return sum;
}

// Four tiles of sums, two of each operand: what eight tiles hold. The operands
// are numbers in +-[0.5, 1), for zeros are multiplied a quarter faster (Emerald
// Rapids: 2.3 against 1.8 TFLOP/s), and no product is of those.
template <bool kLoads>
__attribute__((target("amx-tile,amx-bf16"))) float TileProducts(
    int64_t rounds) {
  struct alignas(64) Palette {
    uint8_t id = 1;
    uint8_t start_row = 0;
    uint8_t reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  };
  const Palette palette;
  _tile_loadconfig(&palette);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  alignas(64) uint16_t operands[4][512];
  uint32_t state = 1;
  for (auto& tile : operands) {
    for (uint16_t& bf16 : tile) {
      state = state * 1664525 + 1013904223;
      bf16 = static_cast<uint16_t>(0x3f00 | (state >> 16 & 0x807f));
    }
  }
  _tile_loadd(4, operands[0], 64);
  _tile_loadd(6, operands[1], 64);
  _tile_loadd(7, operands[2], 64);
  _tile_loadd(5, operands[3], 64);
  for (int64_t round = 0; round < rounds; ++round) {
    if (kLoads) _tile_loadd(4, operands[0], 64);
    if (kLoads) _tile_loadd(6, operands[1], 64);
    _tile_dpbf16ps(0, 4, 6);
    if (kLoads) _tile_loadd(7, operands[2], 64);
    _tile_dpbf16ps(1, 4, 7);
    if (kLoads) _tile_loadd(5, operands[3], 64);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  float sums[256];
  _tile_stored(0, sums, 64);
  _tile_release();
  return sums[0];
}

// Eight sums: with fewer the additions' latency would bind, not memory. Without
// the request ahead one core of an Emerald Rapids reads some percent less, with
// narrower registers a third less.
constexpr int64_t kAheadFloats = 1024;

float ReadBy128(const float* x, int64_t lines) {
  __m128 sum[8] = {};
  for (int64_t line = 0; line < lines; line += 2, x += 32) {
#pragma GCC unroll 8
    for (int part = 0; part < 8; ++part) {
      if (part % 4 == 0) {
        _mm_prefetch(x + 4 * part + kAheadFloats, _MM_HINT_T0);
      }
      sum[part] = _mm_add_ps(sum[part], _mm_load_ps(x + 4 * part));
    }
  }
  float total = 0;
  for (const __m128 part : sum) total += _mm_cvtss_f32(part);
  return total;
}

__attribute__((target("avx2"))) float ReadBy256(const float* x, int64_t lines) {
  __m256 sum[8] = {};
  for (int64_t line = 0; line < lines; line += 4, x += 64) {
#pragma GCC unroll 8
    for (int part = 0; part < 8; ++part) {
      if (part % 2 == 0) {
        _mm_prefetch(x + 8 * part + kAheadFloats, _MM_HINT_T0);
      }
      sum[part] = _mm256_add_ps(sum[part], _mm256_load_ps(x + 8 * part));
    }
  }
  float total = 0;
  for (const __m256& part : sum) total += _mm256_cvtss_f32(part);
  return total;
}

__attribute__((target("avx512f"))) float ReadBy512(const float* x,
                                                   int64_t lines) {
  __m512 sum[8] = {};
  for (int64_t line = 0; line < lines; line += 8, x += 128) {
#pragma GCC unroll 8
    for (int part = 0; part < 8; ++part) {
      _mm_prefetch(x + 16 * part + kAheadFloats, _MM_HINT_T0);
      sum[part] = _mm512_add_ps(sum[part], _mm512_load_ps(x + 16 * part));
    }
  }
  float total = 0;
  for (const __m512& part : sum) total += _mm512_cvtss_f32(part);
  return total;
}

}  // namespace

absl::StatusOr<std::unique_ptr<MachinePeak>> MachinePeak::Create(
    const std::string& tier, DType operand, int threads) {
  // Codes are multiplied as bf16, to which they are widened.
  const bool pairs = operand == DType::kBF16 || operand == DType::kF8E4M3;
  CHECK(pairs || operand == DType::kF32);
  ASSIGN_OR_RETURN(const TierChoice choice, ChooseCpuTier(tier));
  const CpuTier* const chosen = choice.tier;
  Chains chains = chosen->lanes == 16  ? Avx512Chains
                  : chosen->lanes == 8 ? Avx2Chains
                                       : ScalarChains;
  const ReadLines read = chosen->lanes == 16  ? ReadBy512
                         : chosen->lanes == 8 ? ReadBy256
                                              : ReadBy128;
  Chains alone = nullptr;
  double flops_a_round = 2.0 * kChains * chosen->lanes;
  if (pairs && chosen->pairs == PairsBy::kVdpbf16ps) {
    chains = PairChains;
    flops_a_round = 2.0 * kChains * 32;
  } else if (pairs && chosen->pairs == PairsBy::kTiles) {
    chains = TileProducts</*kLoads=*/true>;
    alone = TileProducts</*kLoads=*/false>;
    flops_a_round = 4 * 2.0 * 16 * 16 * 32;  // 16 x 16 sums of 32 terms
  }
  return std::unique_ptr<MachinePeak>(
      new MachinePeak(chains, alone, flops_a_round, read, threads));
}

MachinePeak::MachinePeak(Chains chains, Chains alone, double flops_a_round,
                         ReadLines read, int threads)
    : chains_(chains),
      alone_(alone),
      flops_a_round_(flops_a_round),
      read_(read),
      pool_(threads) {}

double MachinePeak::RunFmas() { return Run(chains_); }

double MachinePeak::RunTilesAlone() {
  return alone_ == nullptr ? 0 : Run(alone_);
}

double MachinePeak::Run(Chains chains) {
  const int threads = pool_.threads();
  pool_.ParallelFor(threads, 1, [&](int, int64_t, int64_t) {
    sink.store(chains(kRounds), std::memory_order_relaxed);
  });
  return flops_a_round_ * static_cast<double>(kRounds * threads);
}

double MachinePeak::Read(const void* data, int64_t bytes) {
  constexpr int64_t kLineBytes = 64;
  constexpr int64_t kGrain = 1024;  // lines that are not worth a second thread
  CHECK_EQ(bytes % (8 * kLineBytes), 0);
  CHECK_EQ(reinterpret_cast<uintptr_t>(data) % kLineBytes, 0u);
  const auto* const floats = static_cast<const float*>(data);
  pool_.ParallelFor(bytes / kLineBytes, kGrain,
                    [&](int, int64_t begin, int64_t end) {
                      sink.store(read_(floats + begin * 16, end - begin),
                                 std::memory_order_relaxed);
                    });
  return static_cast<double>(bytes);
}

}  // namespace temper
