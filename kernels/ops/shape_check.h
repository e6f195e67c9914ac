// The shapes that operations state (kernels/ops/backend.h and the argument
// files), CHECKed in one place for every device: what differs is our own bug,
// and a loop or a kernel would read or write past an end. Types, and that rows
// are dense, are checked where a device takes its views (tensor_rows.h).

#ifndef KERNELS_OPS_SHAPE_CHECK_H_
#define KERNELS_OPS_SHAPE_CHECK_H_

#include "kernels/ops/attention_arguments.h"
#include "kernels/ops/op_arguments.h"
#include "kernels/ops/sample_arguments.h"
#include "kernels/tensor/tensor.h"

namespace temper {

// Columns that a use of a weight takes and gives.
int64_t ColumnsFrom(const WeightSpec& weight, Use use);
int64_t ColumnsTo(const WeightSpec& weight, Use use);

void CheckLinear(const Tensor& x, const WeightSpec& weight, Use use,
                 const Tensor& y);
void CheckHeadLinear(const Tensor& x, const WeightSpec& weight, Use use,
                     const Tensor& y);
void CheckGroupedLinear(const GroupedLinearArgs& args,
                        const WeightSpec& weight);
void CheckWeightValues(const Tensor& values, const WeightSpec& weight);
// That scales fit codes, or the matrices [groups, out, in] that they quantise.
void CheckScales(const Tensor& codes, const Tensor& scales);
void CheckLinearWeightGrad(const WeightGradArgs& args);
void CheckHeadLinearWeightGrad(const WeightGradArgs& args);
void CheckShapes(const GroupedLinearWeightGradArgs& args);

// That rows of `from` can become rows of `to`: of one type, or f32 and bf16.
void CheckCopyable(const Tensor& from, const Tensor& to);
void CheckSameShape(const Tensor& a, const Tensor& b);
void CheckEmbedBackward(const Tensor& ids, const Tensor& dx,
                        const Tensor& dtable);
void CheckRmsNorm(const Tensor& x, const Tensor& w, const Tensor& y);
void CheckShapes(const RmsNormBackwardArgs& args);
void CheckShapes(const LayerNormArgs& args);
void CheckShapes(const LayerNormBackwardArgs& args);
void CheckHadamard(const Tensor& x);
void CheckRope(const Tensor& x, const Tensor& position, const Tensor& cos_sin);
void CheckShapes(const SwiGluBackwardArgs& args);
void CheckShapes(const WriteKeysArgs& args);

void CheckShapes(const IndexerSelectArgs& args);
void CheckShapes(const SparseMlaArgs& args);
void CheckShapes(const SparseMlaBackwardArgs& args);
void CheckShapes(const IndexerKlArgs& args);
void CheckShapes(const IndexerKlBackwardArgs& args);

void CheckShapes(const MoeGateArgs& args);
void CheckShapes(const MoeGateBackwardArgs& args);
void CheckShapes(const MoePlanArgs& args);
void CheckShapes(const MoeCombineArgs& args);
void CheckShapes(const MoeCombineBackwardArgs& args);

// `weight`: of the arguments' w. That the published rows fit it is checked
// where they are read.
void CheckShapes(const LogProbArgs& args, const WeightSpec& weight);
void CheckShapes(const LogProbBackwardArgs& args, const WeightSpec& weight);
void CheckDrawWords(const Tensor& rows, const Tensor& words);
void CheckShapes(const SampleArgs& args);

void CheckShapes(const AdamWTensor& tensor);

}  // namespace temper

#endif  // KERNELS_OPS_SHAPE_CHECK_H_
