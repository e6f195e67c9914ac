#include "kernels/cuda/device_math.h"
#include "kernels/cuda/head.h"
#include "kernels/cuda/product.h"

namespace temper::cuda {
namespace {

// The ids of a row.
struct RowSet {
  const int32_t* kept = nullptr;  // null: all
  int64_t count = 0;
  __device__ int64_t id(int64_t place) const {
    return kept == nullptr ? place : kept[place];
  }
};

__device__ inline RowSet SetOf(const KeptSets& sets, int64_t n) {
  if (sets.offsets == nullptr || sets.offsets[n] == sets.offsets[n + 1]) {
    return {nullptr, sets.vocabulary};
  }
  return {sets.ids + sets.offsets[n], sets.offsets[n + 1] - sets.offsets[n]};
}

// By a warp: whether some lane's flag is set.
__device__ inline bool Any(bool flag) {
  return __ballot_sync(kAllLanes, flag) != 0;
}

// By a warp: what is wrong with a row.
__device__ inline DeviceFault FaultOf(const KeptSets& x, int64_t n) {
  const int32_t target = x.targets[n];
  if (target < 0 || target >= x.vocabulary) return DeviceFault::kTarget;
  if (x.offsets == nullptr) return DeviceFault::kNone;
  const int32_t begin = x.offsets[n], end = x.offsets[n + 1];
  if (begin == end) return DeviceFault::kNone;
  if (begin < 0 || begin > end || end > x.size) return DeviceFault::kKeptSet;
  bool wrong = false, found = false;
  for (int64_t i = begin + LaneOf(); i < end; i += kWarp) {
    const int32_t id = x.ids[i];
    wrong = wrong || id < 0 || id >= x.vocabulary ||
            (i + 1 < end && id >= x.ids[i + 1]);
    found = found || id == target;
  }
  if (Any(wrong)) return DeviceFault::kKeptSet;
  return Any(found) ? DeviceFault::kNone : DeviceFault::kTarget;
}

// A warp a row.
__global__ void kept_set_faults_i32(KeptSets x, uint32_t* faults) {
  const int64_t n = ThreadOfGrid() / kWarp;
  if (n >= x.rows) return;
  const DeviceFault fault = FaultOf(x, n);
  if (LaneOf() == 0) faults[n] = static_cast<uint32_t>(fault);
}

// One warp: the fault of the first row that has one.
__global__ void first_fault_u32(const uint32_t* faults, int64_t rows,
                                uint32_t* bad, uint32_t* word) {
  uint32_t first = 0;
  for (int64_t n = 0; n < rows && first == 0; n += kWarp) {
    const uint32_t own = n + LaneOf() < rows ? faults[n + LaneOf()] : 0;
    const unsigned mask = __ballot_sync(kAllLanes, own != 0);
    if (mask == 0) continue;
    first = __shfl_sync(kAllLanes, own, __ffs(static_cast<int>(mask)) - 1);
  }
  if (LaneOf() != 0) return;
  *bad = first;
  if (first != 0) SetFault(word, static_cast<DeviceFault>(first));
}

// A temperature of 1 leaves the bits alone.
__device__ inline float Cooled(float logit, float temperature) {
  return temperature != 1 ? logit / temperature : logit;
}

// A warp a row.
__global__ void log_prob_f32(HeadChunk x, LogProbs out) {
  const int64_t i = ThreadOfGrid() / kWarp, n = x.first + i;
  if (i >= x.count || *x.bad != 0) return;
  const RowSet set = SetOf(x.sets, n);
  const float* const logits = x.logits + i * x.sets.vocabulary;
  const auto z = [&](int64_t place) {
    return Cooled(logits[set.id(place)], x.temperature);
  };
  const float largest = WarpMax(set.count, z);
  const float sum = WarpSum(
      set.count, [&](int64_t place) { return Exp(z(place) - largest); });
  const float dot =
      WarpReduce(set.count, [&](int64_t place, bool there, float total) {
        const float at = there ? z(place) : 0.0f;
        return Fma(there ? Exp(at - largest) : 0.0f, at, total);
      });
  if (LaneOf() != 0) return;
  const float lse = LogSumExp(largest, sum);
  out.lse[n] = lse;
  out.logp[n] = Cooled(logits[x.sets.targets[n]], x.temperature) - lse;
  out.entropy[n] = lse - dot / sum;
}

__device__ inline bool Has(const RowSet& set, int32_t id) {
  if (set.kept == nullptr) return true;
  int64_t begin = 0, end = set.count;
  while (begin < end) {
    const int64_t middle = (begin + end) / 2;
    if (set.kept[middle] < id) {
      begin = middle + 1;
    } else {
      end = middle;
    }
  }
  return begin < set.count && set.kept[begin] == id;
}

// A thread a logit.
__global__ void logit_grads_f32(HeadChunk x, const float* lse,
                                const float* dlogp) {
  const int64_t at = ThreadOfGrid(), vocabulary = x.sets.vocabulary;
  const int64_t i = at / vocabulary, n = x.first + i;
  const auto v = static_cast<int32_t>(at % vocabulary);
  if (i >= x.count || *x.bad != 0) return;
  if (!Has(SetOf(x.sets, n), v)) {
    x.logits[at] = __uint_as_float(kAbsent);
    return;
  }
  const float factor = dlogp[n] / x.temperature;
  float g = Exp(Cooled(x.logits[at], x.temperature) - lse[n]) * -factor;
  if (v == x.sets.targets[n]) g = g + factor;
  x.logits[at] = g;
}

}  // namespace

void CheckKeptSets(const KeptSets& sets, uint32_t* faults, uint32_t* bad,
                   uint32_t* fault, Stream stream) {
  TEMPER_LAUNCH_WARPS(kept_set_faults_i32, sets.rows, stream, sets, faults);
  TEMPER_LAUNCH(first_fault_u32, 1, kWarp, 0, stream, faults, sets.rows, bad,
                fault);
}

void LogProb(const HeadChunk& rows, const LogProbs& out, Stream stream) {
  TEMPER_LAUNCH_WARPS(log_prob_f32, rows.count, stream, rows, out);
}

void LogitGrads(const HeadChunk& rows, const float* lse, const float* dlogp,
                Stream stream) {
  TEMPER_LAUNCH_THREADS(logit_grads_f32, rows.count * rows.sets.vocabulary,
                        stream, rows, lse, dlogp);
}

}  // namespace temper::cuda
