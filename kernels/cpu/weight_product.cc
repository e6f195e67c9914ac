#include "kernels/cpu/weight_product.h"

#include "kernels/base/log.h"
#include "kernels/cpu/gemm.h"
#include "kernels/ops/shape_check.h"

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

}  // namespace

void MultiplySerial(const TierKernels& tier, const CpuWeight& weight, Use use,
                    int64_t group, const WeightRows& rows) {
  if (weight.spec.dtype == DType::kBF16) {
    PairGemmSerial(tier, Pairs(weight, use, group, rows));
  } else {
    GemmSerial(tier, Floats(weight, use, group, rows));
  }
}

void MultiplyParallel(const TierKernels& tier, ThreadPool* pool,
                      const CpuWeight& weight, Use use,
                      const WeightRows& rows) {
  CHECK_EQ(weight.spec.groups, 1);
  if (weight.spec.dtype == DType::kBF16) {
    PairGemmParallel(tier, pool, Pairs(weight, use, 0, rows));
  } else {
    GemmParallel(tier, pool, Floats(weight, use, 0, rows));
  }
}

}  // namespace temper
