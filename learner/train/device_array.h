// A device buffer that grows to the largest size asked of it and is then
// reused: what a step uploads and downloads.

#ifndef LEARNER_TRAIN_DEVICE_ARRAY_H_
#define LEARNER_TRAIN_DEVICE_ARRAY_H_

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/ops/backend.h"

namespace temper {

// Not thread-safe. A tensor it returned is valid until the next call.
class DeviceArray {
 public:
  // `backend` must outlive the object.
  explicit DeviceArray(Backend* backend) : backend_(backend) {}

  // A tensor of this type and shape with unspecified values.
  absl::StatusOr<Tensor> Reserve(DType dtype,
                                 std::initializer_list<int64_t> shape);

  // A tensor [values.size()] with these values.
  template <typename T>
  absl::StatusOr<Tensor> Upload(const std::vector<T>& values) {
    auto tensor = Reserve(DTypeOf<T>(), {static_cast<int64_t>(values.size())});
    if (!tensor.ok() || values.empty()) return tensor;
    const absl::Status status = backend_->CopyFromHost(values.data(), *tensor);
    if (!status.ok()) return status;
    return tensor;
  }

 private:
  Backend* const backend_;
  std::unique_ptr<Buffer> buffer_;
};

// The values of a contiguous f32 tensor, after all that was enqueued.
absl::StatusOr<std::vector<float>> Download(Backend* backend,
                                            const Tensor& tensor);

}  // namespace temper

#endif  // LEARNER_TRAIN_DEVICE_ARRAY_H_
