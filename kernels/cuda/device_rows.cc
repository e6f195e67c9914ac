#include "kernels/cuda/device_rows.h"

#include <bit>

namespace temper::cuda {

View ViewOf(const Tensor& x) {
  CHECK(x.device() == Device::kCuda) << x.DebugString();
  static_assert(Tensor::kRankMax == 4);
  View view;
  view.data = x.data();
  view.elements = x.elements();
  for (int axis = 0; axis < x.rank(); ++axis) {
    const int at = 4 - x.rank() + axis;
    view.dim[at] = x.dim(axis);
    view.stride[at] = x.stride(axis);
  }
  return view;
}

TypedRows TypedRowsOf(const Tensor& x) {
  CHECK(x.device() == Device::kCuda) << x.DebugString();
  CHECK_GE(x.rank(), 1) << x.DebugString();
  int64_t columns = 1;
  for (int axis = x.rank() - 1; axis > 0; --axis) {
    CHECK(x.dim(axis) <= 1 || x.stride(axis) == columns) << x.DebugString();
    columns *= x.dim(axis);
  }
  return {x.data(), x.dim(0), columns, x.stride(0)};
}

Element ElementOf(const Tensor& from, const Tensor& to) {
  if (from.dtype() != to.dtype()) {
    return to.dtype() == DType::kBF16 ? Element::kRound : Element::kWiden;
  }
  switch (DTypeBytes(to.dtype())) {
    case 1:
      return Element::kBytes1;
    case 2:
      return Element::kBytes2;
    case 4:
      return Element::kBytes4;
    default:
      return Element::kBytes8;
  }
}

Keys KeysOf(const KeyMap& map, int64_t rows, uint32_t* fault) {
  return {
      .sequence = VectorOf<const int32_t>(map.sequence),
      .position = VectorOf<const int32_t>(map.position),
      .blocks = RowsOf<const int32_t>(map.blocks),
      .page_shift = std::countr_zero(static_cast<uint32_t>(map.page_tokens)),
      .rows = rows,
      .fault = fault};
}

}  // namespace temper::cuda
