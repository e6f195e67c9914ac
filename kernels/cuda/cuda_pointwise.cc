// Pointwise operations, normalisations, and what a step leaves behind, of
// CudaBackend.

#include "kernels/base/log.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device_rows.h"
#include "kernels/cuda/norm.h"
#include "kernels/cuda/optimizer.h"
#include "kernels/cuda/pointwise.h"
#include "kernels/ops/shape_check.h"

namespace temper {
namespace {

using cuda::GroupedRowsOf;
using cuda::RowsOf;
using cuda::ScratchPlan;
using cuda::VectorOf;
using cuda::ViewOf;

void CheckFloats(const Tensor& x) {
  CHECK(x.dtype() == DType::kF32) << x.DebugString();
}

}  // namespace

void CudaBackend::MoveRows(const Tensor& from, const Tensor& rows,
                           const Tensor& to, cuda::Move move) {
  CheckCopyable(from, to);
  const cuda::TypedRows source = cuda::TypedRowsOf(from);
  const cuda::TypedRows target = cuda::TypedRowsOf(to);
  CHECK_EQ(source.columns, target.columns)
      << from.DebugString() << " to " << to.DebugString();
  CHECK_EQ(rows.dim(0), move == cuda::Move::kGather ? target.rows : source.rows)
      << rows.DebugString();
  cuda::MoveRows(source, VectorOf<const int32_t>(rows), target,
                 cuda::ElementOf(from, to), move, fault(), stream());
}

void CudaBackend::Embed(const Tensor& table, const Tensor& ids,
                        const Tensor& x) {
  MoveRows(table, ids, x, cuda::Move::kGather);
}

void CudaBackend::EmbedBackward(const Tensor& ids, const Tensor& dx,
                                const Tensor& dtable) {
  CheckEmbedBackward(ids, dx, dtable);
  cuda::EmbedBackward(VectorOf<const int32_t>(ids), RowsOf<const float>(dx),
                      RowsOf<float>(dtable), fault(), stream());
}

void CudaBackend::ScatterRows(const Tensor& from, const Tensor& rows,
                              const Tensor& to) {
  MoveRows(from, rows, to, cuda::Move::kScatter);
}

void CudaBackend::GatherRows(const Tensor& from, const Tensor& rows,
                             const Tensor& to) {
  MoveRows(from, rows, to, cuda::Move::kGather);
}

void CudaBackend::WriteKeys(const WriteKeysArgs& args) {
  CheckShapes(args);
  CheckFloats(args.latent);
  CheckFloats(args.index_keys);
  MoveRows(args.latent, args.slot, args.latent_strip, cuda::Move::kWrite);
  MoveRows(args.index_keys, args.slot, args.index_strip, cuda::Move::kWrite);
}

void CudaBackend::Add(const Tensor& y, const Tensor& x) {
  CheckFloats(x);
  CheckFloats(y);
  CheckSameShape(y, x);
  cuda::Add(ViewOf(y), ViewOf(x), stream());
}

void CudaBackend::Scale(float factor, const Tensor& x) {
  CheckFloats(x);
  cuda::Scale(factor, ViewOf(x), stream());
}

void CudaBackend::Copy(const Tensor& from, const Tensor& to) {
  CheckCopyable(from, to);
  CheckSameShape(from, to);
  cuda::Copy(ViewOf(from), ViewOf(to), cuda::ElementOf(from, to), stream());
}

void CudaBackend::Rope(const Tensor& x, const Tensor& position,
                       const Tensor& cos_sin, RopeStyle style,
                       RopeDirection direction) {
  CheckRope(x, position, cos_sin);
  cuda::Rope({.x = GroupedRowsOf<float>(x),
              .position = VectorOf<const int32_t>(position),
              .cos_sin = RowsOf<const float>(cos_sin),
              .interleaved = style == RopeStyle::kInterleaved,
              .sign = direction == RopeDirection::kForward ? 1.0f : -1.0f},
             fault(), stream());
}

void CudaBackend::SwiGlu(const Tensor& gate, const Tensor& up,
                         const Tensor& h) {
  CheckSameShape(gate, up);
  CheckSameShape(gate, h);
  cuda::SwiGlu(RowsOf<const float>(gate), RowsOf<const float>(up),
               RowsOf<float>(h), stream());
}

void CudaBackend::SwiGluBackward(const SwiGluBackwardArgs& args) {
  CheckShapes(args);
  cuda::SwiGluBackward({.gate = RowsOf<const float>(args.gate),
                        .up = RowsOf<const float>(args.up),
                        .dh = RowsOf<const float>(args.dh),
                        .dgate = RowsOf<float>(args.dgate),
                        .dup = RowsOf<float>(args.dup)},
                       stream());
}

void CudaBackend::RmsNorm(const Tensor& x, const Tensor& w, float eps,
                          const Tensor& y) {
  CheckRmsNorm(x, w, y);
  cuda::Norm({.x = RowsOf<const float>(x),
              .w = VectorOf<const float>(w),
              .b = nullptr,
              .eps = eps,
              .y = RowsOf<float>(y)},
             stream());
}

void CudaBackend::LayerNorm(const LayerNormArgs& args) {
  CheckShapes(args);
  cuda::Norm({.x = RowsOf<const float>(args.x),
              .w = VectorOf<const float>(args.w),
              .b = VectorOf<const float>(args.b),
              .eps = args.eps,
              .y = RowsOf<float>(args.y)},
             stream());
}

void CudaBackend::RmsNormBackward(const RmsNormBackwardArgs& args) {
  CheckShapes(args);
  ScratchPlan plan;
  const auto moments = plan.Add<cuda::Moments>(args.x.dim(0));
  char* const scratch = Scratch(plan.bytes());
  if (scratch == nullptr) return;
  cuda::NormBackward({.x = RowsOf<const float>(args.x),
                      .w = VectorOf<const float>(args.w),
                      .eps = args.eps,
                      .dy = RowsOf<const float>(args.dy),
                      .dx = RowsOf<float>(args.dx),
                      .dw = VectorOf<float>(args.dw),
                      .db = nullptr,
                      .moments = moments.in(scratch)},
                     stream());
}

void CudaBackend::LayerNormBackward(const LayerNormBackwardArgs& args) {
  CheckShapes(args);
  ScratchPlan plan;
  const auto moments = plan.Add<cuda::Moments>(args.x.dim(0));
  char* const scratch = Scratch(plan.bytes());
  if (scratch == nullptr) return;
  cuda::NormBackward({.x = RowsOf<const float>(args.x),
                      .w = VectorOf<const float>(args.w),
                      .eps = args.eps,
                      .dy = RowsOf<const float>(args.dy),
                      .dx = RowsOf<float>(args.dx),
                      .dw = VectorOf<float>(args.dw),
                      .db = VectorOf<float>(args.db),
                      .moments = moments.in(scratch)},
                     stream());
}

void CudaBackend::CountEqualRows(const Tensor& a, const Tensor& b,
                                 const Tensor& count) {
  CheckSameShape(a, b);
  CHECK_EQ(count.dim(0), 1) << count.DebugString();
  cuda::CountEqualRows(RowsOf<const int32_t>(a), RowsOf<const int32_t>(b),
                       VectorOf<int64_t>(count), stream());
}

void CudaBackend::CheckNumbers(const Tensor& x, double limit) {
  const double* squares = Squares({&x, 1}, nullptr);
  if (squares == nullptr) return;
  cuda::CheckNumbers(squares, static_cast<double>(x.elements()), limit, fault(),
                     stream());
}

}  // namespace temper
