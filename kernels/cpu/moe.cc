// Mixture of experts of CpuBackend: gate, plan, combination.

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/base/log.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/rows.h"
#include "kernels/ops/shape_check.h"

namespace temper {
namespace {

constexpr float kLowest = -__builtin_inff();
constexpr float kLowestFinite = std::numeric_limits<float>::lowest();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// Sum of the two largest of `count` values (the one, if there is one).
float TopTwoSum(const float* values, int64_t count) {
  float first = kLowest, second = kLowest;
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

// Index of the largest value, the lowest of several; -1 if all are -inf.
int64_t ArgMax(const float* values, int64_t count) {
  int64_t best = -1;
  float best_value = kLowest;
  for (int64_t i = 0; i < count; ++i) {
    if (values[i] > best_value) {
      best = i;
      best_value = values[i];
    }
  }
  return best;
}

// Leaves the best `topk_group` groups of `biased` and sets the rest to -inf.
void KeepBestGroups(const GateOptions& options, int64_t experts, float* biased,
                    float* group_scores) {
  const int64_t groups = options.n_group;
  const int64_t size = experts / groups;
  for (int64_t group = 0; group < groups; ++group) {
    // Two biases may come to -inf, which is what a taken group has.
    group_scores[group] =
        std::max(TopTwoSum(biased + group * size, size), kLowestFinite);
  }
  for (int32_t kept = 0; kept < options.topk_group; ++kept) {
    const int64_t best = ArgMax(group_scores, groups);
    CHECK_GE(best, 0);  // finite, and more than are wanted
    group_scores[best] = kLowest;
  }
  // A kept group is one whose score was taken.
  for (int64_t group = 0; group < groups; ++group) {
    if (group_scores[group] == kLowest) continue;
    std::fill_n(biased + group * size, size, kLowest);
  }
}

// Whether the experts can be told apart: weights that are finite but huge make
// a router whose logits are not numbers.
bool CanChoose(const float* scores, const float* bias, int64_t experts) {
  for (int64_t e = 0; e < experts; ++e) {
    if (!std::isfinite(scores[e] + bias[e])) return false;
  }
  return true;
}

void ChooseExperts(const GateOptions& options, const float* scores,
                   const float* bias, int64_t experts, int64_t slots,
                   float* scratch, int32_t* routes) {
  float* biased = scratch;
  for (int64_t e = 0; e < experts; ++e) biased[e] = scores[e] + bias[e];
  if (options.topk_group < options.n_group) {
    KeepBestGroups(options, experts, biased, scratch + experts);
  }
  for (int64_t slot = 0; slot < slots; ++slot) {
    const int64_t best = ArgMax(biased, experts);
    CHECK_GE(best, 0);  // finite, and more than are wanted
    routes[slot] = static_cast<int32_t>(best);
    biased[best] = kLowest;
  }
  std::sort(routes, routes + slots);
}

// Where a row's choice is kept for those that come to its slot later: narrow,
// for it lies beside every cached token.
class RouteStrip {
 public:
  RouteStrip(const Tensor& strip, const Tensor& slot, int64_t rows) {
    if (strip.empty()) return;
    slot_ = AsVector<const int32_t>(slot, rows);
    if (strip.dtype() == DType::kU8) {
      bytes_ = AsRows<uint8_t>(strip);
    } else {
      words_ = AsRows<uint16_t>(strip);
    }
  }

  // False if the row's slot is beyond the strip.
  bool Write(int64_t n, const int32_t* routes) const {
    if (slot_ == nullptr || slot_[n] < 0) return true;
    if (slot_[n] >= bytes_.rows + words_.rows) return false;
    if (bytes_.data != nullptr) {
      std::copy_n(routes, bytes_.columns, bytes_.row(slot_[n]));
    } else {
      std::copy_n(routes, words_.columns, words_.row(slot_[n]));
    }
    return true;
  }

 private:
  const int32_t* slot_ = nullptr;
  Rows<uint8_t> bytes_;
  Rows<uint16_t> words_;
};

float ScoreSum(const float* scores, const int32_t* routes, int64_t slots) {
  float sum = 0;
  for (int64_t slot = 0; slot < slots; ++slot) sum += scores[routes[slot]];
  return sum;
}

}  // namespace

void CpuBackend::MoeGate(const MoeGateArgs& args) {
  CheckShapes(args);
  const auto from = AsRows<const float>(args.logits);
  const auto score = AsRows<float>(args.scores);
  const auto route = AsRows<int32_t>(args.routes);
  const auto gate = AsRows<float>(args.gates);
  const int64_t experts = from.columns, slots = route.columns;
  const float* expert_bias = AsVector<const float>(args.bias, experts);
  const RouteStrip strip(args.strip, args.slot, from.rows);
  pool_.ParallelFor(
      from.rows, RowGrain(16 * experts),
      [&](int thread, int64_t begin, int64_t end) {
        float* scratch = Scratch(thread, experts + args.options.n_group);
        for (int64_t n = begin; n < end; ++n) {
          const float* s = score.row(n);
          int32_t* r = route.row(n);
          tier_.sigmoid(from.row(n), score.row(n), experts);
          const bool can_choose = CanChoose(s, expert_bias, experts);
          const bool chooses = args.live || r[0] < 0;
          if (chooses && can_choose) {
            ChooseExperts(args.options, s, expert_bias, experts, slots, scratch,
                          r);
          } else if (chooses) {
            std::iota(r, r + slots, 0);
          }
          for (int64_t a = 0; a < slots; ++a) {
            if (r[a] >= 0 && r[a] < experts) continue;
            SetFault(DeviceFault::kRoute);
            r[a] = 0;
          }
          const float sum = ScoreSum(s, r, slots);
          for (int64_t a = 0; a < slots; ++a) {
            gate.row(n)[a] =
                can_choose ? s[r[a]] / sum * args.options.routed_scaling_factor
                           : kNaN;
          }
          if (!strip.Write(n, r)) SetFault(DeviceFault::kRow);
        }
      });
}

void CpuBackend::MoeGateBackward(const MoeGateBackwardArgs& args) {
  CheckShapes(args);
  const auto score = AsRows<const float>(args.scores);
  const auto route = AsRows<const int32_t>(args.routes);
  const auto grad = AsRows<const float>(args.dgates);
  const auto out = AsRows<float>(args.dlogits);
  const int64_t slots = route.columns;
  pool_.ParallelFor(score.rows, RowGrain(2 * score.columns),
                    [&](int, int64_t begin, int64_t end) {
                      for (int64_t n = begin; n < end; ++n) {
                        const float* s = score.row(n);
                        const int32_t* r = route.row(n);
                        const float* d = grad.row(n);
                        std::fill_n(out.row(n), out.columns, 0.0f);
                        const float sum = ScoreSum(s, r, slots);
                        float weighted = 0;
                        for (int64_t a = 0; a < slots; ++a)
                          weighted += d[a] * s[r[a]];
                        weighted /= sum;
                        for (int64_t a = 0; a < slots; ++a) {
                          const float dscore =
                              args.options.routed_scaling_factor / sum *
                              (d[a] - weighted);
                          out.row(n)[r[a]] = dscore * (s[r[a]] * (1 - s[r[a]]));
                        }
                      }
                    });
}

void CpuBackend::MoePlan(const MoePlanArgs& args) {
  CheckShapes(args);
  const auto route = AsRows<const int32_t>(args.routes);
  const auto at = AsRows<int32_t>(args.place);
  const int64_t slots = route.columns;
  int32_t* offset = AsVector<int32_t>(args.offsets, -1);
  int32_t* row = AsVector<int32_t>(args.rows, route.rows * slots);
  const int64_t experts = args.offsets.dim(0) - 1;
  std::fill_n(offset, experts + 1, 0);
  for (int64_t n = 0; n < route.rows; ++n) {
    for (int64_t a = 0; a < slots; ++a) {
      const int32_t expert = route.row(n)[a];
      if (expert < 0 || expert >= experts) {
        // No plan: every place would be wrong, and rows stay as they were.
        SetFault(DeviceFault::kRoute);
        std::fill_n(offset, experts + 1, 0);
        return;
      }
      ++offset[expert + 1];
    }
  }
  for (int64_t e = 0; e < experts; ++e) offset[e + 1] += offset[e];
  // Fills each expert from its start, then shifts the starts back.
  for (int64_t n = 0; n < route.rows; ++n) {
    for (int64_t a = 0; a < slots; ++a) {
      const int32_t sorted = offset[route.row(n)[a]]++;
      row[sorted] = static_cast<int32_t>(n);
      at.row(n)[a] = sorted;
    }
  }
  for (int64_t e = experts; e > 0; --e) offset[e] = offset[e - 1];
  offset[0] = 0;
}

void CpuBackend::MoeCombine(const MoeCombineArgs& args) {
  CheckShapes(args);
  const auto from = AsRows<const float>(args.x);
  const auto at = AsRows<const int32_t>(args.place);
  const auto to = AsRows<float>(args.y);
  Rows<const float> gate;
  if (!args.gates.empty()) gate = AsRows<const float>(args.gates);
  pool_.ParallelFor(to.rows, RowGrain(2 * to.columns * at.columns),
                    [&](int, int64_t begin, int64_t end) {
                      for (int64_t n = begin; n < end; ++n) {
                        for (int64_t a = 0; a < at.columns; ++a) {
                          const int32_t sorted = at.row(n)[a];
                          if (sorted < 0 || sorted >= from.rows) {
                            SetFault(DeviceFault::kRow);
                            continue;
                          }
                          tier_.axpy(
                              gate.data == nullptr ? 1.0f : gate.row(n)[a],
                              from.row(sorted), to.row(n), to.columns);
                        }
                      }
                    });
}

void CpuBackend::MoeCombineBackward(const MoeCombineBackwardArgs& args) {
  CheckShapes(args);
  const auto from = AsRows<const float>(args.x);
  const auto at = AsRows<const int32_t>(args.place);
  const auto gate = AsRows<const float>(args.gates);
  const auto grad = AsRows<const float>(args.dy);
  const auto to = AsRows<float>(args.dx);
  const auto gate_grad = AsRows<float>(args.dgates);
  const int64_t columns = grad.columns;
  pool_.ParallelFor(grad.rows, RowGrain(2 * columns * at.columns),
                    [&](int, int64_t begin, int64_t end) {
                      for (int64_t n = begin; n < end; ++n) {
                        for (int64_t a = 0; a < at.columns; ++a) {
                          const int32_t sorted = at.row(n)[a];
                          if (sorted < 0 || sorted >= from.rows) {
                            SetFault(DeviceFault::kRow);
                            continue;
                          }
                          gate_grad.row(n)[a] =
                              tier_.dot(from.row(sorted), grad.row(n), columns);
                          std::copy_n(grad.row(n), columns, to.row(sorted));
                          tier_.scale(gate.row(n)[a], to.row(sorted), columns);
                        }
                      }
                    });
}

}  // namespace temper
