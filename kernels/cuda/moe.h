// Launches of the mixture of experts (kernels/ops/backend.h): gate, plan,
// combination. All enqueue and return; operands were checked.

#ifndef KERNELS_CUDA_MOE_H_
#define KERNELS_CUDA_MOE_H_

#include <cstdint>

#include "kernels/cuda/launch.h"
#include "kernels/ops/rows.h"

namespace temper::cuda {

struct GateArgs {
  Rows<const float> logits;
  const float* bias;
  int32_t n_group, topk_group;
  float routed_scaling_factor;
  bool live;
  Rows<float> scores;
  Rows<int32_t> routes;
  Rows<float> gates;
  // The strip of routes, of bytes or of words; both null: none.
  const int32_t* slot;
  Rows<uint8_t> bytes;
  Rows<uint16_t> words;
  float* scratch;  // [rows, experts + n_group]
  uint32_t* fault;
};
void MoeGate(const GateArgs& args, Stream stream);

struct GateGrads {
  Rows<const float> scores;
  Rows<const int32_t> routes;
  float routed_scaling_factor;
  Rows<const float> dgates;
  Rows<float> dlogits;
};
void MoeGateBackward(const GateGrads& args, Stream stream);

struct PlanArgs {
  Rows<const int32_t> routes;
  int64_t experts;
  int32_t* offsets;
  int32_t* rows;
  Rows<int32_t> place;
  int32_t* counts;  // scratch [experts]
  uint32_t* bad;    // scratch: a route that there is not
  uint32_t* fault;
};
void MoePlan(const PlanArgs& args, Stream stream);

struct CombineArgs {
  Rows<const float> x;
  Rows<const int32_t> place;
  Rows<const float> gates;  // null data: ones
  Rows<float> y;
  uint32_t* fault;
};
void MoeCombine(const CombineArgs& args, Stream stream);

struct CombineGrads {
  Rows<const float> x;
  Rows<const int32_t> place;
  Rows<const float> gates;
  Rows<const float> dy;
  Rows<float> dx;
  Rows<float> dgates;
  uint32_t* fault;
};
void MoeCombineBackward(const CombineGrads& args, Stream stream);

}  // namespace temper::cuda

#endif  // KERNELS_CUDA_MOE_H_
