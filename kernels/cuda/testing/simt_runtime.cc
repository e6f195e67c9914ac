#include <cstdlib>
#include <cstring>
#include <functional>
#include <utility>
#include <vector>

#include "kernels/base/log.h"
#include "kernels/cuda/simt/emulator.h"
#include "kernels/cuda/simt/launch_observer.h"
#include "kernels/cuda/testing/test_runtime.h"

namespace temper::cuda {
namespace {

// What comes down, as it was when the copy was enqueued.
struct Delivery {
  void* to;
  std::vector<char> bytes;
};

using Graph = std::vector<std::function<void()>>;

class SimtRuntime final : public Runtime, private simt::LaunchObserver {
 public:
  ~SimtRuntime() override { CHECK(capturing_ == nullptr); }

  Stream stream() const override { return nullptr; }

  absl::StatusOr<void*> Allocate(int64_t bytes) override {
    CHECK(capturing_ == nullptr) << "an allocation in a capture";
    void* memory = simt::AllocateGlobal(static_cast<size_t>(bytes));
    std::memset(memory, 0, static_cast<size_t>(bytes));
    return memory;
  }
  void Free(void* memory) override { simt::FreeGlobal(memory); }
  absl::StatusOr<void*> AllocateHost(int64_t bytes) override {
    return std::calloc(static_cast<size_t>(bytes), 1);
  }
  void FreeHost(void* memory) override { std::free(memory); }

  void CopyUp(const void* host, void* device, int64_t bytes) override {
    CopyOnDevice(host, device, bytes);
  }
  void CopyDown(const void* device, void* host, int64_t bytes) override {
    Do([this, device, host, bytes] {
      const auto* from = static_cast<const char*>(device);
      deliveries_.push_back({host, std::vector<char>(from, from + bytes)});
    });
  }
  void CopyOnDevice(const void* from, void* to, int64_t bytes) override {
    Do([=] { std::memcpy(to, from, static_cast<size_t>(bytes)); });
  }
  void Zero(void* device, int64_t bytes) override {
    Do([=] { std::memset(device, 0, static_cast<size_t>(bytes)); });
  }

  void Record(int event) override {
    CHECK(capturing_ == nullptr) << "an event in a capture";
    delivered_at_[event] = deliveries_.size();
  }
  absl::Status Wait(int event) override {
    const size_t until = delivered_at_[event];
    for (size_t i = 0; i < until; ++i) {
      const Delivery& delivery = deliveries_[i];
      std::memcpy(delivery.to, delivery.bytes.data(), delivery.bytes.size());
    }
    deliveries_.erase(deliveries_.begin(),
                      deliveries_.begin() + static_cast<ptrdiff_t>(until));
    for (size_t& at : delivered_at_) at = at < until ? 0 : at - until;
    return absl::OkStatus();
  }

  absl::Status BeginCapture() override {
    CHECK(capturing_ == nullptr) << "a capture in a capture";
    capturing_ = new Graph;
    simt::SetLaunchObserver(this);
    return absl::OkStatus();
  }
  absl::StatusOr<void*> EndCapture() override {
    simt::SetLaunchObserver(nullptr);
    return static_cast<void*>(std::exchange(capturing_, nullptr));
  }
  void Replay(void* graph) override {
    for (const auto& step : *static_cast<Graph*>(graph)) step();
  }
  void FreeGraph(void* graph) override { delete static_cast<Graph*>(graph); }

 private:
  void OnLaunch(const char*, dim3, dim3, size_t,
                std::function<void()> run) override {
    capturing_->push_back(std::move(run));
  }

  void Do(std::function<void()> step) {
    if (capturing_ != nullptr) {
      capturing_->push_back(std::move(step));
    } else {
      step();
    }
  }

  std::vector<Delivery> deliveries_;
  size_t delivered_at_[kRuntimeEvents] = {};
  Graph* capturing_ = nullptr;
};

}  // namespace

std::unique_ptr<Runtime> NewTestRuntime(uint64_t schedule) {
  simt::SetSchedule(schedule);
  return std::make_unique<SimtRuntime>();
}

}  // namespace temper::cuda
