#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/base/log.h"
#include "kernels/cuda/simt/emulator.h"
#include "kernels/cuda/simt/launch_observer.h"
#include "kernels/cuda/simt/memory.h"
#include "kernels/cuda/testing/test_runtime.h"

namespace temper::cuda {
namespace {

using Steps = std::vector<std::function<void()>>;

// What is enqueued on the one emulated device, of all runtimes: launches come
// here from the first runtime on. It runs as late as it may, when it is waited
// for, so that what the host does too early shows.
class Queue final : private simt::LaunchObserver {
 public:
  static Queue& Get() {
    static Queue queue;
    return queue;
  }

  void Add(std::function<void()> step) {
    if (captured_ != nullptr) {
      captured_->push_back(std::move(step));
    } else {
      waiting_.push_back(std::move(step));
    }
  }

  // Steps that were ever added.
  uint64_t end() const { return run_ + waiting_.size(); }
  void RunUntil(uint64_t end) {
    while (run_ < end) {
      const std::function<void()> step = std::move(waiting_.front());
      waiting_.pop_front();
      ++run_;
      step();
    }
  }

  // Where steps go in place of the queue; null: there again.
  void Capture(Steps* to) { captured_ = to; }

 private:
  Queue() { simt::SetLaunchObserver(this); }

  void OnLaunch(const char*, dim3, dim3, size_t,
                std::function<void()> run) override {
    Add(std::move(run));
  }

  std::deque<std::function<void()>> waiting_;
  uint64_t run_ = 0;
  Steps* captured_ = nullptr;
};

struct Graph {
  std::shared_ptr<Steps> steps;  // which the queue may have yet
};

// As a device's driver, when the copy is enqueued.
void CheckOfOneAllocation(const void* device, int64_t bytes) {
  const auto at = reinterpret_cast<uintptr_t>(device);
  CHECK(simt::AllocationAt(at).Holds(at, static_cast<size_t>(bytes)))
      << bytes << " bytes that are in no allocation";
}

class SimtRuntime final : public Runtime {
 public:
  ~SimtRuntime() override { CHECK(!capturing()); }

  Stream stream() const override { return nullptr; }

  absl::StatusOr<void*> Allocate(int64_t bytes) override {
    CHECK(!capturing()) << "an allocation in a capture";
    void* memory = simt::AllocateGlobal(static_cast<size_t>(bytes));
    std::memset(memory, 0, static_cast<size_t>(bytes));
    return memory;
  }
  // As a device, once it has done all.
  void Free(void* memory) override {
    CHECK(!capturing()) << "memory is freed in a capture";
    queue_.RunUntil(queue_.end());
    simt::FreeGlobal(memory);
  }
  absl::StatusOr<void*> AllocateHost(int64_t bytes) override {
    CHECK(!capturing()) << "an allocation in a capture";
    return std::calloc(static_cast<size_t>(bytes), 1);
  }
  void FreeHost(void* memory) override {
    CHECK(!capturing()) << "memory is freed in a capture";
    queue_.RunUntil(queue_.end());
    std::free(memory);
  }

  void CopyUp(const void* host, void* device, int64_t bytes) override {
    CheckOfOneAllocation(device, bytes);
    queue_.Add([=] { std::memcpy(device, host, static_cast<size_t>(bytes)); });
  }
  void CopyDown(const void* device, void* host, int64_t bytes) override {
    CheckOfOneAllocation(device, bytes);
    queue_.Add([=] { std::memcpy(host, device, static_cast<size_t>(bytes)); });
  }
  void Zero(void* device, int64_t bytes) override {
    CheckOfOneAllocation(device, bytes);
    queue_.Add([=] { std::memset(device, 0, static_cast<size_t>(bytes)); });
  }

  void Record(int event) override {
    CHECK(!capturing()) << "an event in a capture";
    recorded_at_[event] = queue_.end();
  }
  absl::Status Wait(int event) override {
    queue_.RunUntil(recorded_at_[event]);
    return absl::OkStatus();
  }

  absl::Status BeginCapture() override {
    CHECK(!capturing()) << "a capture in a capture";
    captured_ = std::make_shared<Steps>();
    queue_.Capture(captured_.get());
    return absl::OkStatus();
  }
  absl::StatusOr<void*> EndCapture() override {
    queue_.Capture(nullptr);
    return static_cast<void*>(new Graph{std::move(captured_)});
  }
  bool capturing() const override { return captured_ != nullptr; }
  void Replay(void* graph) override {
    queue_.Add([steps = static_cast<Graph*>(graph)->steps] {
      for (const auto& step : *steps) step();
    });
  }
  void FreeGraph(void* graph) override { delete static_cast<Graph*>(graph); }

 private:
  Queue& queue_ = Queue::Get();
  uint64_t recorded_at_[kRuntimeEvents] = {};
  std::shared_ptr<Steps> captured_;
};

}  // namespace

std::unique_ptr<Runtime> NewTestRuntime(uint64_t schedule) {
  Queue::Get().RunUntil(Queue::Get().end());
  simt::SetSchedule(schedule);
  return std::make_unique<SimtRuntime>();
}

}  // namespace temper::cuda
