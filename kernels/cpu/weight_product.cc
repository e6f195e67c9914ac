#include "kernels/cpu/weight_product.h"

#include "kernels/base/log.h"
#include "kernels/cpu/gemm.h"
#include "kernels/ops/shape_check.h"
#include "kernels/tensor/fp8.h"

namespace temper {
namespace {

GemmBlock Floats(const CpuWeight& weight, Use use, int64_t group,
                 const WeightRows& rows) {
  const int64_t depth = ColumnsFrom(weight.spec, use);
  return {.rows = rows.rows,
          .columns = ColumnsTo(weight.spec, use),
          .depth = depth,
          .a = rows.x,
          .a_row = rows.x_row,
          .b = weight.packed(use, group),
          .b_panel = kPanel * depth,
          .c = rows.y,
          .c_row = rows.y_row};
}

PairGemm Pairs(const CpuWeight& weight, Use use, int64_t group,
               const WeightRows& rows) {
  const int64_t depth = ColumnsFrom(weight.spec, use);
  return {.rows = rows.rows,
          .columns = ColumnsTo(weight.spec, use),
          .depth = depth,
          .a = rows.x,
          .a_row = rows.x_row,
          .b = reinterpret_cast<const uint32_t*>(weight.packed(use, group)),
          .b_panel = PairPanel(depth),
          .c = rows.y,
          .c_row = rows.y_row};
}

CodeGemm Codes(const CpuWeight& weight, int64_t group, const WeightRows& rows) {
  return {.rows = rows.rows,
          .columns = weight.spec.out,
          .depth = weight.spec.in,
          .a = rows.x,
          .a_row = rows.x_row,
          .b = reinterpret_cast<const uint8_t*>(
              weight.packed(Use::kForward, group)),
          .b_panel = CodePanel(weight.spec.in),
          .scales = weight.scales_of(group),
          .scales_row = ScaleBlocks(weight.spec.in),
          .c = rows.y,
          .c_row = rows.y_row};
}

}  // namespace

bool MultiplySerial(const TierKernels& tier, const CpuWeight& weight, Use use,
                    int64_t group, const WeightRows& rows) {
  if (weight.spec.dtype == DType::kF32) {
    GemmSerial(tier, Floats(weight, use, group, rows));
  } else if (weight.ByCodes(use)) {
    return CodeGemmSerial(tier, Codes(weight, group, rows));
  } else {
    PairGemmSerial(tier, Pairs(weight, use, group, rows));
  }
  return true;
}

bool MultiplyParallel(const TierKernels& tier, ThreadPool* pool,
                      const CpuWeight& weight, Use use,
                      const WeightRows& rows) {
  CHECK_EQ(weight.spec.groups, 1);
  if (weight.spec.dtype == DType::kF32) {
    GemmParallel(tier, pool, Floats(weight, use, 0, rows));
  } else if (weight.ByCodes(use)) {
    return CodeGemmParallel(tier, pool, Codes(weight, 0, rows));
  } else {
    PairGemmParallel(tier, pool, Pairs(weight, use, 0, rows));
  }
  return true;
}

}  // namespace temper
