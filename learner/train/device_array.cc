#include "learner/train/device_array.h"

#include <algorithm>

#include "kernels/base/status_macros.h"

namespace temper {

absl::StatusOr<Tensor> DeviceArray::Reserve(
    DType dtype, std::initializer_list<int64_t> shape) {
  int64_t bytes = static_cast<int64_t>(DTypeBytes(dtype));
  for (const int64_t size : shape) bytes *= size;
  // A tensor of no elements is not an empty Tensor: it has an address.
  bytes = std::max<int64_t>(bytes, 64);
  if (buffer_ == nullptr || buffer_->bytes() < bytes) {
    ASSIGN_OR_RETURN(buffer_, backend_->Allocate(bytes + bytes / 4));
  }
  return Tensor(buffer_->data(), dtype, shape, backend_->device());
}

absl::StatusOr<std::vector<float>> Download(Backend* backend,
                                            const Tensor& tensor) {
  std::vector<float> values(tensor.elements());
  if (values.empty()) return values;
  RETURN_IF_ERROR(backend->Read(tensor, values.data()));
  return values;
}

}  // namespace temper
