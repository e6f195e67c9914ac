#include "kernels/ops/testing/staging_backend.h"

#include <cstdint>
#include <utility>

#include "kernels/base/log.h"
#include "kernels/ops/testing/argument_tensors.h"
#include "kernels/ops/testing/forwarding_backend.h"
#include "kernels/ops/testing/staged_operands.h"

namespace temper {
namespace {

// Every operation: its operands up, itself over them, and they back.
class Stage {
 public:
  template <typename Operation, typename... Arguments>
  void operator()(Backend* device, Operation operation,
                  const Arguments&... arguments) {
    Operands up(device, &fault_);
    const auto enter = [&](const Tensor& tensor) { up.In(tensor); };
    (ForEachTensor(arguments, enter), ...);
    up.Upload();
    (device->*operation)(Mapped(arguments, up)...);
    up.Download();
  }

  absl::Status TakeFault() { return std::exchange(fault_, absl::OkStatus()); }

 private:
  absl::Status fault_;  // the first since the last TakeFault
};

class StagingBackend : public ForwardingBackendBy<Stage> {
 public:
  explicit StagingBackend(std::unique_ptr<Backend> device)
      : ForwardingBackendBy(device.get()), device_(std::move(device)) {}

  // What it hands out and takes is the host's.
  Device device() const override { return Device::kCpu; }
  absl::StatusOr<std::unique_ptr<Buffer>> Allocate(int64_t) override {
    return absl::UnimplementedError("op cases own their arrays");
  }
  absl::Status CopyFromHost(const void*, const Tensor&) override {
    return absl::UnimplementedError("op cases own their arrays");
  }
  absl::Status Read(const Tensor&, void*) override {
    return absl::UnimplementedError("op cases own their arrays");
  }
  absl::StatusOr<std::unique_ptr<HostBuffer>> AllocateHost(int64_t) override {
    return absl::UnimplementedError("op cases own their arrays");
  }
  void CopyToHost(const Tensor&, HostBuffer*, int64_t) override {
    CHECK(false) << "op cases own their arrays";
  }
  absl::Status Sync() override { return pass().TakeFault(); }

 private:
  const std::unique_ptr<Backend> device_;
};

}  // namespace

std::unique_ptr<Backend> NewStagingBackend(std::unique_ptr<Backend> device) {
  return std::make_unique<StagingBackend>(std::move(device));
}

}  // namespace temper
