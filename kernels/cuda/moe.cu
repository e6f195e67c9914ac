#include "kernels/cuda/block_scan.h"
#include "kernels/cuda/device_math.h"
#include "kernels/cuda/moe.h"

namespace temper::cuda {
namespace {

constexpr float kLowestFinite = -3.402823466e+38f;

__device__ inline bool IsFinite(float x) {
  return (__float_as_uint(x) & 0x7F800000u) != 0x7F800000u;
}

// By a warp: the index of the largest value, the lowest of several; -1 if all
// are -inf.
__device__ inline int WarpArgMax(const float* values, int64_t count) {
  int best = -1;
  float largest = NegativeInfinity();
  for (int64_t i = LaneOf(); i < count; i += kWarp) {
    if (values[i] > largest) {
      best = static_cast<int>(i);
      largest = values[i];
    }
  }
  for (int half = kWarp / 2; half >= 1; half /= 2) {
    const float other = __shfl_xor_sync(kAllLanes, largest, half);
    const int at = __shfl_xor_sync(kAllLanes, best, half);
    // As unsigned numbers, -1 is beyond every index.
    const bool lower = static_cast<unsigned>(at) < static_cast<unsigned>(best);
    if (other > largest || (other == largest && lower)) {
      largest = other;
      best = at;
    }
  }
  return best;
}

__device__ inline float TopTwoSum(const float* values, int64_t count) {
  float first = NegativeInfinity(), second = NegativeInfinity();
  for (int64_t i = 0; i < count; ++i) {
    if (values[i] > first) {
      second = first;
      first = values[i];
    } else if (values[i] > second) {
      second = values[i];
    }
  }
  return count > 1 ? first + second : first;
}

// By a warp: leaves the best groups of `biased` and sets the rest to -inf.
__device__ inline void KeepBestGroups(const GateArgs& x, int64_t experts,
                                      float* biased, float* group_scores) {
  const int64_t size = experts / x.n_group;
  for (int64_t g = LaneOf(); g < x.n_group; g += kWarp) {
    const float sum = TopTwoSum(biased + g * size, size);
    group_scores[g] = sum < kLowestFinite ? kLowestFinite : sum;
  }
  __syncwarp();
  for (int32_t kept = 0; kept < x.topk_group; ++kept) {
    const int best = WarpArgMax(group_scores, x.n_group);
    __syncwarp();
    if (LaneOf() == 0 && best >= 0) group_scores[best] = NegativeInfinity();
    __syncwarp();
  }
  // A kept group is one whose score was taken.
  for (int64_t e = LaneOf(); e < experts; e += kWarp) {
    if (group_scores[e / size] != NegativeInfinity()) {
      biased[e] = NegativeInfinity();
    }
  }
  __syncwarp();
}

// By a warp. Lane 0 puts each expert in its place among those before it.
__device__ inline void ChooseExperts(const GateArgs& x, int64_t experts,
                                     float* biased, int32_t* routes) {
  if (x.topk_group < x.n_group) {
    KeepBestGroups(x, experts, biased, biased + experts);
  }
  for (int64_t slot = 0; slot < x.routes.columns; ++slot) {
    const int best = WarpArgMax(biased, experts);
    __syncwarp();
    if (LaneOf() == 0) {
      if (best >= 0) biased[best] = NegativeInfinity();
      int64_t at = slot;
      for (; at > 0 && routes[at - 1] > best; --at) routes[at] = routes[at - 1];
      routes[at] = best;
    }
    __syncwarp();
  }
}

template <typename T>
__device__ inline void WriteStrip(const Rows<T>& strip, int32_t slot,
                                  const int32_t* routes, int64_t slots,
                                  uint32_t* fault) {
  if (slot < 0) return;
  if (slot >= strip.rows) {
    if (LaneOf() == 0) SetFault(fault, DeviceFault::kRow);
    return;
  }
  for (int64_t a = LaneOf(); a < slots; a += kWarp) {
    strip.data[slot * strip.stride + a] = static_cast<T>(routes[a]);
  }
}

// A chain in slot order, by every lane the same.
__device__ inline float ScoreSum(const float* scores, const int32_t* routes,
                                 int64_t slots) {
  float sum = 0;
  for (int64_t a = 0; a < slots; ++a) sum = sum + scores[routes[a]];
  return sum;
}

// A warp a row.
__global__ void moe_gate_f32(GateArgs x) {
  const int64_t n = ThreadOfGrid() / kWarp;
  if (n >= x.logits.rows) return;
  const int64_t experts = x.logits.columns, slots = x.routes.columns;
  const float* const logits = x.logits.data + n * x.logits.stride;
  float* const scores = x.scores.data + n * x.scores.stride;
  int32_t* const routes = x.routes.data + n * x.routes.stride;
  float* const biased = x.scratch + n * (experts + x.n_group);
  bool finite = true;
  for (int64_t e = LaneOf(); e < experts; e += kWarp) {
    scores[e] = Sigmoid(logits[e]);
    biased[e] = scores[e] + x.bias[e];
    finite = finite && IsFinite(biased[e]);
  }
  // Experts can be told apart if all their numbers are numbers.
  const bool can_choose = __ballot_sync(kAllLanes, finite) == kAllLanes;
  const bool chooses = slots > 0 && (x.live || routes[0] < 0);
  __syncwarp();
  if (chooses && can_choose) {
    ChooseExperts(x, experts, biased, routes);
  } else if (chooses) {
    for (int64_t a = LaneOf(); a < slots; a += kWarp) {
      routes[a] = static_cast<int32_t>(a);
    }
  }
  __syncwarp();
  for (int64_t a = LaneOf(); a < slots; a += kWarp) {
    if (routes[a] >= 0 && routes[a] < experts) continue;
    SetFault(x.fault, DeviceFault::kRoute);
    routes[a] = 0;
  }
  __syncwarp();
  const float sum = ScoreSum(scores, routes, slots);
  for (int64_t a = LaneOf(); a < slots; a += kWarp) {
    x.gates.data[n * x.gates.stride + a] =
        can_choose ? scores[routes[a]] / sum * x.routed_scaling_factor
                   : __uint_as_float(0x7FC00000u);
  }
  if (x.slot == nullptr) return;
  if (x.bytes.data != nullptr) {
    WriteStrip(x.bytes, x.slot[n], routes, slots, x.fault);
  } else {
    WriteStrip(x.words, x.slot[n], routes, slots, x.fault);
  }
}

// A warp a row.
__global__ void moe_gate_backward_f32(GateGrads x) {
  const int64_t n = ThreadOfGrid() / kWarp;
  if (n >= x.scores.rows) return;
  const int64_t experts = x.scores.columns, slots = x.routes.columns;
  const float* const s = x.scores.data + n * x.scores.stride;
  const int32_t* const r = x.routes.data + n * x.routes.stride;
  const float* const d = x.dgates.data + n * x.dgates.stride;
  float* const out = x.dlogits.data + n * x.dlogits.stride;
  for (int64_t e = LaneOf(); e < experts; e += kWarp) out[e] = 0;
  const float sum = ScoreSum(s, r, slots);
  float weighted = 0;
  for (int64_t a = 0; a < slots; ++a) weighted = weighted + d[a] * s[r[a]];
  weighted = weighted / sum;
  __syncwarp();
  for (int64_t a = LaneOf(); a < slots; a += kWarp) {
    const float score = s[r[a]];
    const float dscore = x.routed_scaling_factor / sum * (d[a] - weighted);
    out[r[a]] = dscore * (score * (1.0f - score));
  }
}

// --- The plan ----------------------------------------------------------------

constexpr int kPlanThreads = 256;

// A block an expert: how many pairs are its own. The first looks for a route
// that there is not.
__global__ void __launch_bounds__(kPlanThreads) plan_count_i32(PlanArgs x) {
  __shared__ ScanRoom<kPlanThreads> room;
  const int64_t slots = x.routes.columns, pairs = x.routes.rows * slots;
  int own = 0, wrong = 0, of_block = 0;
  for (int64_t first = 0; first < pairs; first += kPlanThreads) {
    const int64_t i = first + threadIdx.x;
    const int32_t expert =
        i < pairs ? x.routes.data[i / slots * x.routes.stride + i % slots] : 0;
    CountBefore(i < pairs && expert == static_cast<int32_t>(blockIdx.x), &room,
                &of_block);
    own += of_block;
    CountBefore(expert < 0 || expert >= x.experts, &room, &of_block);
    wrong += of_block;
  }
  if (threadIdx.x != 0) return;
  x.counts[blockIdx.x] = own;
  if (blockIdx.x != 0) return;
  *x.bad = wrong > 0;
  if (wrong > 0) SetFault(x.fault, DeviceFault::kRoute);
}

// Without a plan every place would be wrong: rows stay as they were.
__global__ void plan_offsets_i32(PlanArgs x) {
  int32_t sum = 0;
  for (int64_t e = 0; e < x.experts; ++e) {
    x.offsets[e] = sum;
    if (*x.bad == 0) sum += x.counts[e];
  }
  x.offsets[x.experts] = sum;
}

// A block an expert: its pairs in order.
__global__ void __launch_bounds__(kPlanThreads) plan_places_i32(PlanArgs x) {
  __shared__ ScanRoom<kPlanThreads> room;
  if (*x.bad != 0) return;
  const int64_t slots = x.routes.columns, pairs = x.routes.rows * slots;
  int32_t sorted = x.offsets[blockIdx.x];
  for (int64_t first = 0; first < pairs; first += kPlanThreads) {
    const int64_t i = first + threadIdx.x, n = i / slots, a = i % slots;
    const bool own = i < pairs && x.routes.data[n * x.routes.stride + a] ==
                                      static_cast<int32_t>(blockIdx.x);
    int more = 0;
    const int32_t at = sorted + CountBefore(own, &room, &more);
    if (own) {
      x.rows[at] = static_cast<int32_t>(n);
      x.place.data[n * x.place.stride + a] = at;
    }
    sorted += more;
  }
}

// --- Combination -------------------------------------------------------------

// A thread an element of y: slots ascend.
__global__ void moe_combine_f32(CombineArgs x) {
  const int64_t i = ThreadOfGrid(), n = i / x.y.columns, c = i % x.y.columns;
  if (n >= x.y.rows) return;
  float sum = x.y.data[n * x.y.stride + c];
  for (int64_t a = 0; a < x.place.columns; ++a) {
    const int32_t sorted = x.place.data[n * x.place.stride + a];
    if (sorted < 0 || sorted >= x.x.rows) {
      if (c == 0) SetFault(x.fault, DeviceFault::kRow);
      continue;
    }
    const float gate =
        x.gates.data == nullptr ? 1.0f : x.gates.data[n * x.gates.stride + a];
    sum = Fma(gate, x.x.data[sorted * x.x.stride + c], sum);
  }
  x.y.data[n * x.y.stride + c] = sum;
}

// A warp a pair.
__global__ void moe_combine_backward_f32(CombineGrads x) {
  const int64_t pair = ThreadOfGrid() / kWarp, slots = x.place.columns;
  const int64_t n = pair / slots, a = pair % slots;
  if (n >= x.dy.rows) return;
  const int32_t sorted = x.place.data[n * x.place.stride + a];
  if (sorted < 0 || sorted >= x.x.rows) {
    if (LaneOf() == 0) SetFault(x.fault, DeviceFault::kRow);
    return;
  }
  const float* const dy = x.dy.data + n * x.dy.stride;
  float* const dx = x.dx.data + sorted * x.dx.stride;
  const float gate = x.gates.data[n * x.gates.stride + a];
  const float dot = WarpDot(x.x.data + sorted * x.x.stride, dy, x.dy.columns);
  if (LaneOf() == 0) x.dgates.data[n * x.dgates.stride + a] = dot;
  for (int64_t c = LaneOf(); c < x.dy.columns; c += kWarp) {
    dx[c] = dy[c] * gate;
  }
}

}  // namespace

void MoeGate(const GateArgs& args, Stream stream) {
  TEMPER_LAUNCH_WARPS(moe_gate_f32, args.logits.rows, stream, args);
}

void MoeGateBackward(const GateGrads& args, Stream stream) {
  TEMPER_LAUNCH_WARPS(moe_gate_backward_f32, args.scores.rows, stream, args);
}

void MoePlan(const PlanArgs& args, Stream stream) {
  const auto experts = static_cast<unsigned>(args.experts);
  if (experts == 0) return;
  TEMPER_LAUNCH(plan_count_i32, experts, kPlanThreads, 0, stream, args);
  TEMPER_LAUNCH(plan_offsets_i32, 1, 1, 0, stream, args);
  TEMPER_LAUNCH(plan_places_i32, experts, kPlanThreads, 0, stream, args);
}

void MoeCombine(const CombineArgs& args, Stream stream) {
  TEMPER_LAUNCH_THREADS(moe_combine_f32, args.y.rows * args.y.columns, stream,
                        args);
}

void MoeCombineBackward(const CombineGrads& args, Stream stream) {
  TEMPER_LAUNCH_WARPS(moe_combine_backward_f32,
                      args.dy.rows * args.place.columns, stream, args);
}

}  // namespace temper::cuda
