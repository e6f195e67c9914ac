// Mixture of experts, head and sampling of CudaBackend.

#include <algorithm>

#include "kernels/base/log.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device_rows.h"
#include "kernels/cuda/head.h"
#include "kernels/cuda/moe.h"
#include "kernels/cuda/product.h"
#include "kernels/cuda/sample.h"
#include "kernels/ops/shape_check.h"

namespace temper {
namespace {

using cuda::RowsOf;
using cuda::ScratchPlan;
using cuda::VectorOf;

}  // namespace

void CudaBackend::MoeGate(const MoeGateArgs& args) {
  CheckShapes(args);
  const auto logits = RowsOf<const float>(args.logits);
  ScratchPlan plan;
  const auto biased =
      plan.Add<float>(logits.rows * (logits.columns + args.options.n_group));
  char* const scratch = Scratch(plan.bytes());
  if (scratch == nullptr) return;
  cuda::GateArgs gate = {
      .logits = logits,
      .bias = VectorOf<const float>(args.bias),
      .n_group = args.options.n_group,
      .topk_group = args.options.topk_group,
      .routed_scaling_factor = args.options.routed_scaling_factor,
      .live = args.live,
      .scores = RowsOf<float>(args.scores),
      .routes = RowsOf<int32_t>(args.routes),
      .gates = RowsOf<float>(args.gates),
      .slot = nullptr,
      .bytes = {},
      .words = {},
      .scratch = biased.in(scratch),
      .fault = fault()};
  if (!args.strip.empty()) {
    gate.slot = VectorOf<const int32_t>(args.slot);
    if (args.strip.dtype() == DType::kU8) {
      gate.bytes = RowsOf<uint8_t>(args.strip);
    } else {
      gate.words = RowsOf<uint16_t>(args.strip);
    }
  }
  cuda::MoeGate(gate, stream());
}

void CudaBackend::MoeGateBackward(const MoeGateBackwardArgs& args) {
  CheckShapes(args);
  cuda::MoeGateBackward(
      {.scores = RowsOf<const float>(args.scores),
       .routes = RowsOf<const int32_t>(args.routes),
       .routed_scaling_factor = args.options.routed_scaling_factor,
       .dgates = RowsOf<const float>(args.dgates),
       .dlogits = RowsOf<float>(args.dlogits)},
      stream());
}

void CudaBackend::MoePlan(const MoePlanArgs& args) {
  CheckShapes(args);
  const int64_t experts = args.offsets.dim(0) - 1;
  ScratchPlan plan;
  const auto counts = plan.Add<int32_t>(experts);
  const auto bad = plan.Add<uint32_t>(1);
  char* const scratch = Scratch(plan.bytes());
  if (scratch == nullptr) return;
  cuda::MoePlan({.routes = RowsOf<const int32_t>(args.routes),
                 .experts = experts,
                 .offsets = VectorOf<int32_t>(args.offsets),
                 .rows = VectorOf<int32_t>(args.rows),
                 .place = RowsOf<int32_t>(args.place),
                 .counts = counts.in(scratch),
                 .bad = bad.in(scratch),
                 .fault = fault()},
                stream());
}

void CudaBackend::MoeCombine(const MoeCombineArgs& args) {
  CheckShapes(args);
  cuda::MoeCombine(
      {.x = RowsOf<const float>(args.x),
       .place = RowsOf<const int32_t>(args.place),
       .gates = args.gates.empty() ? Rows<const float>()
                                   : RowsOf<const float>(args.gates),
       .y = RowsOf<float>(args.y),
       .fault = fault()},
      stream());
}

void CudaBackend::MoeCombineBackward(const MoeCombineBackwardArgs& args) {
  CheckShapes(args);
  cuda::MoeCombineBackward({.x = RowsOf<const float>(args.x),
                            .place = RowsOf<const int32_t>(args.place),
                            .gates = RowsOf<const float>(args.gates),
                            .dy = RowsOf<const float>(args.dy),
                            .dx = RowsOf<float>(args.dx),
                            .dgates = RowsOf<float>(args.dgates),
                            .fault = fault()},
                           stream());
}

namespace {

// The operands of LogProb and its backward. Logits are of the whole vocabulary
// always: a kept set's are among them, to the bit, since the depth alone
// decides how a product is added up.
struct Head {
  template <typename Args>
  explicit Head(const Args& args)
      : weight(static_cast<const CudaWeight&>(*args.w)),
        x(RowsOf<const float>(args.x)) {
    CheckShapes(args, weight.spec);
    sets = {.targets = VectorOf<const int32_t>(args.targets),
            .rows = x.rows,
            .vocabulary = weight.spec.out};
    if (!args.kept_offsets.empty()) {
      sets.offsets = VectorOf<const int32_t>(args.kept_offsets);
    }
    if (!args.kept_ids.empty()) {
      sets.ids = VectorOf<const int32_t>(args.kept_ids);
      sets.size = args.kept_ids.dim(0);
    }
  }

  const CudaWeight& weight;
  Rows<const float> x;
  cuda::KeptSets sets;
};

}  // namespace

// Calls body with each chunk's logits, made.
template <typename Args, typename Body>
void CudaBackend::ForEachHeadChunk(const Args& args, const Body& body) {
  const Head head(args);
  const int64_t vocabulary = head.sets.vocabulary, rows = head.sets.rows;
  const int64_t chunk =
      ChunkOf(rows, vocabulary * static_cast<int64_t>(sizeof(float)));
  ScratchPlan plan;
  const auto logits = plan.Add<float>(chunk * vocabulary);
  const auto faults = plan.Add<uint32_t>(rows);
  const auto bad = plan.Add<uint32_t>(1);
  char* const scratch = Scratch(plan.bytes());
  if (scratch == nullptr) return;
  cuda::CheckKeptSets(head.sets, faults.in(scratch), bad.in(scratch), fault(),
                      stream());
  for (int64_t first = 0; first < rows; first += chunk) {
    const cuda::HeadChunk part = {.sets = head.sets,
                                  .first = first,
                                  .count = std::min(chunk, rows - first),
                                  .logits = logits.in(scratch),
                                  .temperature = args.temperature,
                                  .bad = bad.in(scratch)};
    const float* const x = head.x.data + first * head.x.stride;
    Multiply(head.weight, Use::kForward, x, head.x.stride, part.logits,
             vocabulary, part.count, part.bad);
    body(head, part, x);
  }
}

void CudaBackend::LogProb(const LogProbArgs& args) {
  const cuda::LogProbs out = {.logp = VectorOf<float>(args.logp),
                              .lse = VectorOf<float>(args.lse),
                              .entropy = VectorOf<float>(args.entropy)};
  ForEachHeadChunk(args,
                   [&](const Head&, const cuda::HeadChunk& part, const float*) {
                     cuda::LogProb(part, out, stream());
                   });
}

void CudaBackend::LogProbBackward(const LogProbBackwardArgs& args) {
  const float* const lse = VectorOf<const float>(args.lse);
  const float* const dlogp = VectorOf<const float>(args.dlogp);
  const auto dx = RowsOf<float>(args.dx);
  const auto dw = RowsOf<float>(args.dw);
  ForEachHeadChunk(
      args, [&](const Head& head, const cuda::HeadChunk& part, const float* x) {
        const int64_t vocabulary = part.sets.vocabulary;
        cuda::LogitGrads(part, lse, dlogp, stream());
        head.weight.CheckFor(Use::kTransposed);
        cuda::Multiply({.a = part.logits,
                        .a_row = vocabulary,
                        .b = head.weight.data(),
                        .b_k = head.weight.spec.in,
                        .c = dx.data + part.first * dx.stride,
                        .c_row = dx.stride,
                        .rows = part.count,
                        .columns = dx.columns,
                        .depth = vocabulary,
                        .skips_absent = true,
                        .unless = part.bad},
                       stream());
        cuda::Multiply({.a = part.logits,
                        .a_row = 1,
                        .a_k = vocabulary,
                        .b = x,
                        .b_k = head.x.stride,
                        .c = dw.data,
                        .c_row = dw.stride,
                        .rows = vocabulary,
                        .columns = dw.columns,
                        .depth = part.count,
                        .goes_on = true,
                        .skips_absent = true,
                        .unless = part.bad},
                       stream());
      });
}

void CudaBackend::DrawWords(const Tensor& rows, const Tensor& words) {
  CheckDrawWords(rows, words);
  cuda::DrawWords(RowsOf<const int32_t>(rows), VectorOf<int32_t>(words),
                  stream());
}

void CudaBackend::Sample(const SampleArgs& args) {
  CheckShapes(args);
  cuda::Sample({.logits = RowsOf<const float>(args.logits),
                .rows = RowsOf<const int32_t>(args.rows),
                .words = VectorOf<const int32_t>(args.words),
                .ids = VectorOf<int32_t>(args.ids),
                .logp = VectorOf<float>(args.logp),
                .kept_ids = RowsOf<int32_t>(args.kept_ids),
                .kept_counts = VectorOf<int32_t>(args.kept_counts),
                .fault = fault()},
               stream());
}

}  // namespace temper
