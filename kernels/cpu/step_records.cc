// What a step leaves behind beside its numbers: keys in their slots, how far
// two choices agree, whether the numbers still mean something.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#include "kernels/base/log.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/row_copy.h"
#include "kernels/cpu/row_walk.h"
#include "kernels/cpu/rows.h"
#include "kernels/ops/shape_check.h"
#include "kernels/tensor/bf16.h"
#include "kernels/tensor/fp8.h"

namespace temper {
namespace {

constexpr int64_t kGrainRows = 16;

// One block of x to `codes` and its scale to `at`, an address of any kind;
// false if it can have none.
bool WriteBlock(const TierKernels& tier, const float* x, int64_t n,
                uint8_t* codes, uint8_t* at) {
  float values[kScaleBlock];
  const float scale = tier.quantise(x, 0, values, n);
  tier.store_codes(values, codes, n);
  std::memcpy(at, &scale, sizeof(scale));
  return !std::isnan(scale);
}

// A latent to its row of a strip (kernels/ops/cache_rows.h), which holds
// `latent` columns in codes and then `rope` in bf16.
bool WriteLatent(const TierKernels& tier, const float* x, int64_t latent,
                 int64_t rope, uint8_t* row) {
  uint8_t* const scales = row + latent;
  bool all = true;
  for (int64_t k = 0; k < latent; k += kScaleBlock) {
    all = WriteBlock(tier, x + k, std::min(kScaleBlock, latent - k), row + k,
                     scales + 4 * (k / kScaleBlock)) &&
          all;
  }
  uint8_t* const tail = scales + 4 * ScaleBlocks(latent);
  for (int64_t k = 0; k < rope; ++k) {
    const BF16 rounded = BF16FromFloat(x[latent + k]);
    std::memcpy(tail + 2 * k, &rounded, sizeof(rounded));
  }
  return all;
}

// Calls write(n, slot) for the tokens that have a slot, which says whether it
// could: what else it is, it is one of `slots`.
template <typename Write>
DeviceFault ForEachSlot(ThreadPool* pool, const Tensor& slot, int64_t slots,
                        const Write& write) {
  const auto* const at = AsVector<const int32_t>(slot, -1);
  std::atomic<DeviceFault> fault{DeviceFault::kNone};
  pool->ParallelFor(slot.dim(0), kGrainRows,
                    [&](int, int64_t begin, int64_t end) {
                      for (int64_t n = begin; n < end; ++n) {
                        if (at[n] < 0) continue;
                        if (at[n] >= slots) {
                          fault = DeviceFault::kRow;
                        } else if (!write(n, at[n])) {
                          fault = DeviceFault::kNumbers;
                        }
                      }
                    });
  return fault;
}

DeviceFault WriteLatents(const TierKernels& tier, ThreadPool* pool,
                         const WriteKeysArgs& args) {
  const auto from = AsRows<const float>(args.latent);
  const auto to = AsRows<F8E4M3>(args.latent_strip);
  return ForEachSlot(pool, args.slot, to.rows, [&](int64_t n, int64_t slot) {
    return WriteLatent(tier, from.row(n), from.columns - args.rope, args.rope,
                       &to.row(slot)->bits);
  });
}

DeviceFault WriteIndexKeys(const TierKernels& tier, ThreadPool* pool,
                           const WriteKeysArgs& args) {
  const auto from = AsRows<const float>(args.index_keys);
  const auto to = AsRows<F8E4M3>(args.index_strip);
  const int64_t dims = from.columns;
  return ForEachSlot(
      pool, args.slot, to.rows * kIndexPageRows, [&](int64_t n, int64_t slot) {
        uint8_t* const page = &to.row(slot / kIndexPageRows)->bits;
        const int64_t row = slot % kIndexPageRows;
        return WriteBlock(tier, from.row(n), dims, page + row * dims,
                          page + kIndexPageRows * dims + 4 * row);
      });
}

// Rows of `from` to their slots of `to`, in the type of those.
DeviceFault WriteRows(const TierKernels& tier, ThreadPool* pool,
                      const Tensor& from, const Tensor& slot,
                      const Tensor& to) {
  const auto source = AsRows<const float>(from);
  CheckCopyable(from, to);
  const RowWalk target(to, /*leading_axes=*/1);
  return ForEachSlot(pool, slot, target.rows(), [&](int64_t n, int64_t row) {
    CopyRow(tier, from.dtype(), source.row(n), to.dtype(), target.row(row),
            source.columns);
    return true;
  });
}

}  // namespace

void CpuBackend::WriteKeys(const WriteKeysArgs& args) {
  CheckShapes(args);
  for (const DeviceFault fault :
       {args.latent_strip.dtype() == DType::kF8E4M3
            ? WriteLatents(tier_, &pool_, args)
            : WriteRows(tier_, &pool_, args.latent, args.slot,
                        args.latent_strip),
        args.index_strip.dtype() == DType::kF8E4M3
            ? WriteIndexKeys(tier_, &pool_, args)
            : WriteRows(tier_, &pool_, args.index_keys, args.slot,
                        args.index_strip)}) {
    if (fault != DeviceFault::kNone) SetFault(fault);
  }
}

void CpuBackend::CountEqualRows(const Tensor& a, const Tensor& b,
                                const Tensor& count) {
  const auto one = AsRows<const int32_t>(a);
  const auto other = AsRows<const int32_t>(b);
  CheckSameShape(a, b);
  int64_t* const total = AsVector<int64_t>(count, 1);
  const size_t bytes = static_cast<size_t>(one.columns) * sizeof(int32_t);
  // A few integers a row: less than handing them to another thread costs.
  for (int64_t n = 0; n < one.rows; ++n) {
    *total += std::memcmp(one.row(n), other.row(n), bytes) == 0;
  }
}

void CpuBackend::CheckNumbers(const Tensor& x, double limit) {
  double squares = 0;
  SumSquares({&x, 1}, Tensor(&squares, DType::kF64, {1}));
  const double size = std::sqrt(squares / static_cast<double>(x.elements()));
  // Written so that a NaN is a fault.
  if (!(size <= limit)) SetFault(DeviceFault::kNumbers);
}

}  // namespace temper
