// Weights, products and their gradients of CudaBackend.

#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device_rows.h"
#include "kernels/cuda/product.h"
#include "kernels/ops/shape_check.h"

namespace temper {
namespace {

using cuda::GroupedRowsOf;
using cuda::Product;
using cuda::RowsOf;
using cuda::VectorOf;

const CudaWeight& AsCudaWeight(const Weight& weight) {
  return static_cast<const CudaWeight&>(weight);
}

// The b of a product with a weight, read the way of its use.
Product WithWeight(const CudaWeight& weight, Use use) {
  weight.CheckFor(use);
  const WeightSpec& spec = weight.spec;
  const bool forward = use == Use::kForward;
  return {.b = weight.data(),
          .b_k = forward ? 1 : spec.in,
          .b_column = forward ? spec.in : 1,
          .b_group = spec.out * spec.in,
          .columns = ColumnsTo(spec, use),
          .depth = ColumnsFrom(spec, use)};
}

void CheckFloats(DType operand) {
  CHECK(operand == DType::kF32)
      << "a product of " << DTypeName(operand) << " on cuda, which has f32";
}

}  // namespace

void CudaWeight::CheckFor(Use use) const {
  const PackedFor other =
      use == Use::kForward ? PackedFor::kTransposed : PackedFor::kForward;
  CHECK(spec.packed_for != other)
      << "a weight that is not packed for this product";
}

absl::StatusOr<std::unique_ptr<Weight>> CudaBackend::NewWeight(
    const WeightSpec& spec) {
  if (spec.dtype != DType::kF32) {
    return absl::UnimplementedError(
        absl::StrCat("a weight of ", DTypeName(spec.dtype),
                     " on cuda, whose kernels compute in f32: set numerics to "
                     "fp32, or compute on the CPU"));
  }
  CHECK(spec.groups >= 1 && spec.out >= 1 && spec.in >= 1)
      << "[" << spec.groups << ", " << spec.out << ", " << spec.in << "]";
  auto weight = std::make_unique<CudaWeight>();
  weight->spec = spec;
  ASSIGN_OR_RETURN(weight->storage,
                   Allocate(spec.groups * spec.out * spec.in *
                            static_cast<int64_t>(sizeof(float))));
  return std::unique_ptr<Weight>(std::move(weight));
}

void CudaBackend::SetWeight(const Tensor& values, Weight* weight) {
  const auto* w = static_cast<const CudaWeight*>(weight);
  CheckWeightValues(values, w->spec);
  CHECK(values.dtype() == DType::kF32) << values.DebugString();
  Copy(values,
       Tensor(w->storage->data(), DType::kF32,
              {w->spec.groups, w->spec.out, w->spec.in}, Device::kCuda));
}

void CudaBackend::QuantiseWeight(const Tensor& x, const Tensor&,
                                 const Tensor&) {
  CHECK(false) << "FP8 on cuda: " << x.DebugString();
}

void CudaBackend::DequantiseWeight(const Tensor& codes, const Tensor&,
                                   const Tensor&) {
  CHECK(false) << "FP8 on cuda: " << codes.DebugString();
}

void CudaBackend::SetQuantisedWeight(const Tensor& codes, const Tensor&,
                                     Weight*) {
  CHECK(false) << "FP8 on cuda: " << codes.DebugString();
}

void CudaBackend::Hadamard(const Tensor& x) {
  CHECK(false) << "FP8 on cuda: " << x.DebugString();
}

void CudaBackend::Multiply(const CudaWeight& weight, Use use, const float* x,
                           int64_t x_row, float* y, int64_t y_row, int64_t rows,
                           const uint32_t* unless) {
  Product product = WithWeight(weight, use);
  product.a = x;
  product.a_row = x_row;
  product.c = y;
  product.c_row = y_row;
  product.rows = rows;
  product.unless = unless;
  cuda::Multiply(product, stream());
}

void CudaBackend::Linear(const Tensor& x, const Weight& w, Use use,
                         const Tensor& y) {
  const CudaWeight& weight = AsCudaWeight(w);
  CheckLinear(x, weight.spec, use, y);
  const auto from = RowsOf<const float>(x);
  const auto to = RowsOf<float>(y);
  Multiply(weight, use, from.data, from.stride, to.data, to.stride, from.rows);
}

void CudaBackend::HeadLinear(const Tensor& x, const Weight& w, Use use,
                             const Tensor& y) {
  const CudaWeight& weight = AsCudaWeight(w);
  CheckHeadLinear(x, weight.spec, use, y);
  const auto from = GroupedRowsOf<const float>(x);
  const auto to = GroupedRowsOf<float>(y);
  Product product = WithWeight(weight, use);
  product.a = from.data;
  product.a_row = from.stride;
  product.a_group = from.group_stride;
  product.c = to.data;
  product.c_row = to.stride;
  product.c_group = to.group_stride;
  product.rows = from.rows;
  product.groups = from.groups;
  cuda::Multiply(product, stream());
}

void CudaBackend::GroupedLinear(const GroupedLinearArgs& args) {
  const CudaWeight& weight = AsCudaWeight(*args.w);
  CheckGroupedLinear(args, weight.spec);
  const auto from = RowsOf<const float>(args.x);
  const auto to = RowsOf<float>(args.y);
  Product product = WithWeight(weight, args.use);
  product.a = from.data;
  product.a_row = from.stride;
  product.c = to.data;
  product.c_row = to.stride;
  product.rows = from.rows;
  product.groups = weight.spec.groups;
  product.cut = Product::Cut::kRows;
  product.offsets = VectorOf<const int32_t>(args.offsets);
  product.fault = fault();
  cuda::Multiply(product, stream());
}

void CudaBackend::LinearWeightGrad(const WeightGradArgs& args) {
  CheckLinearWeightGrad(args);
  CheckFloats(args.operand);
  const auto x = RowsOf<const float>(args.x);
  const auto dy = RowsOf<const float>(args.dy);
  const auto dw = RowsOf<float>(args.dw);
  cuda::Multiply({.a = dy.data,
                  .a_row = 1,
                  .a_k = dy.stride,
                  .b = x.data,
                  .b_k = x.stride,
                  .c = dw.data,
                  .c_row = dw.stride,
                  .rows = dw.rows,
                  .columns = dw.columns,
                  .depth = x.rows,
                  .goes_on = true},
                 stream());
}

void CudaBackend::HeadLinearWeightGrad(const WeightGradArgs& args) {
  CheckHeadLinearWeightGrad(args);
  CheckFloats(args.operand);
  const auto x = GroupedRowsOf<const float>(args.x);
  const auto dy = GroupedRowsOf<const float>(args.dy);
  const auto dw = GroupedRowsOf<float>(args.dw);  // rows are heads
  cuda::Multiply({.a = dy.data,
                  .a_row = 1,
                  .a_k = dy.stride,
                  .a_group = dy.group_stride,
                  .b = x.data,
                  .b_k = x.stride,
                  .b_group = x.group_stride,
                  .c = dw.data,
                  .c_row = dw.group_stride,
                  .c_group = dw.stride,
                  .rows = dw.groups,
                  .columns = dw.columns,
                  .depth = x.rows,
                  .groups = dw.rows,
                  .goes_on = true},
                 stream());
}

void CudaBackend::GroupedLinearWeightGrad(
    const GroupedLinearWeightGradArgs& args) {
  CheckShapes(args);
  CheckFloats(args.operand);
  const auto x = RowsOf<const float>(args.x);
  const auto dy = RowsOf<const float>(args.dy);
  const auto dw = GroupedRowsOf<float>(args.dw);  // rows are experts
  cuda::Multiply({.a = dy.data,
                  .a_row = 1,
                  .a_k = dy.stride,
                  .b = x.data,
                  .b_k = x.stride,
                  .c = dw.data,
                  .c_row = dw.group_stride,
                  .c_group = dw.stride,
                  .rows = dw.groups,
                  .columns = dw.columns,
                  .depth = x.rows,
                  .groups = dw.rows,
                  .goes_on = true,
                  .cut = Product::Cut::kDepth,
                  .offsets = VectorOf<const int32_t>(args.offsets),
                  .fault = fault()},
                 stream());
}

}  // namespace temper
