// What the op cases do not ask: copies and waits as a device has them, the
// error word among several events, graphs, what is refused, and products so
// large that every tile is taken.

#include "kernels/cuda/cuda_backend.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <numeric>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/float_mode.h"
#include "kernels/base/rng.h"
#include "kernels/cuda/testing/test_runtime.h"
#include "kernels/find_backend.h"

namespace temper {
namespace {

using Floats = std::vector<float>;

Floats Normals(uint64_t seed, int64_t count) {
  Floats values(count);
  for (int64_t i = 0; i < count; ++i) {
    values[i] = static_cast<float>(
        Normal({.seed = seed, .ordinal = static_cast<uint32_t>(i)}));
  }
  return values;
}

// A backend and arrays on it.
class Machine {
 public:
  explicit Machine(std::unique_ptr<Backend> backend)
      : backend_(std::move(backend)) {}

  Backend& operator*() { return *backend_; }
  Backend* operator->() { return backend_.get(); }

  template <typename T>
  Tensor Put(const std::vector<T>& values,
             std::initializer_list<int64_t> shape) {
    const Tensor x = Room(DTypeOf<T>(), shape);
    EXPECT_TRUE(backend_->CopyFromHost(values.data(), x).ok());
    return x;
  }
  Tensor Room(DType type, std::initializer_list<int64_t> shape) {
    int64_t bytes = static_cast<int64_t>(DTypeBytes(type));
    for (const int64_t size : shape) bytes *= size;
    kept_.push_back(*backend_->Allocate(bytes));
    return Tensor(kept_.back()->data(), type, shape, backend_->device());
  }
  Floats Get(const Tensor& x) {
    Floats values(x.elements());
    EXPECT_TRUE(backend_->Read(x, values.data()).ok());
    return values;
  }

 private:
  std::unique_ptr<Backend> backend_;
  std::vector<std::unique_ptr<Buffer>> kept_;
};

// A device whose waits are counted and whose memory ends when a test says so.
class WatchedRuntime final : public cuda::Runtime {
 public:
  struct Watch {
    int64_t waits = 0, largest = 0;  // of what was allocated, in bytes
    bool full = false;
  };
  explicit WatchedRuntime(Watch* watch) : watch_(*watch) {}

  cuda::Stream stream() const override { return device_->stream(); }
  absl::StatusOr<void*> Allocate(int64_t bytes) override {
    if (watch_.full) return absl::ResourceExhaustedError("full");
    watch_.largest = std::max(watch_.largest, bytes);
    return device_->Allocate(bytes);
  }
  void Free(void* memory) override { device_->Free(memory); }
  absl::StatusOr<void*> AllocateHost(int64_t bytes) override {
    return device_->AllocateHost(bytes);
  }
  void FreeHost(void* memory) override { device_->FreeHost(memory); }
  void CopyUp(const void* host, void* device, int64_t bytes) override {
    device_->CopyUp(host, device, bytes);
  }
  void CopyDown(const void* device, void* host, int64_t bytes) override {
    device_->CopyDown(device, host, bytes);
  }
  void Zero(void* device, int64_t bytes) override {
    device_->Zero(device, bytes);
  }
  void Record(int event) override { device_->Record(event); }
  absl::Status Wait(int event) override {
    ++watch_.waits;
    return device_->Wait(event);
  }
  absl::Status BeginCapture() override { return device_->BeginCapture(); }
  absl::StatusOr<void*> EndCapture() override { return device_->EndCapture(); }
  bool capturing() const override { return device_->capturing(); }
  void Replay(void* graph) override { device_->Replay(graph); }
  void FreeGraph(void* graph) override { device_->FreeGraph(graph); }

 private:
  Watch& watch_;
  const std::unique_ptr<cuda::Runtime> device_ = cuda::NewTestRuntime();
};

class CudaBackendTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { SetFlushDenormals(); }

  Machine device_{*NewCudaBackend(cuda::NewTestRuntime())};
  Machine scalar_{*FindBackend({.name = "scalar"})};
};

TEST_F(CudaBackendTest, WhatIsStagedMayChangeAndPassesThroughBothHalves) {
  // More than the staging memory holds.
  Floats values((int64_t{9} << 20) / 4);
  std::iota(values.begin(), values.end(), 0.0f);
  const Floats kept = values;
  const auto count = static_cast<int64_t>(values.size());
  const Tensor x = device_.Put(values, {count});
  std::fill(values.begin(), values.end(), -1.0f);
  EXPECT_EQ(device_.Get(x), kept);
  const Tensor middle = device_.Put(Floats(6 * 5, 1.0f), {6, 5}).Slice(1, 1, 4);
  const Floats some = Normals(1, 6 * 3);
  ASSERT_TRUE(device_->CopyFromHost(some.data(), middle).ok());
  EXPECT_EQ(device_.Get(middle), some);
  device_->Zero(middle.Slice(0, 1, 2));
  EXPECT_EQ(device_.Get(middle.Slice(0, 1, 2)), Floats(3, 0.0f));
}

TEST_F(CudaBackendTest, WhatHasGapsIsCopiedInPieces) {
  WatchedRuntime::Watch watch;
  // Of two rows of three floats, and less than one.
  for (const int64_t chunk : {24, 8}) {
    Machine small(*NewCudaBackend(std::make_unique<WatchedRuntime>(&watch),
                                  /*chunk_bytes=*/chunk));
    const Tensor all = small.Put(Floats(5 * 2 * 4, 1.0f), {5, 2, 4});
    const Tensor x = all.Slice(2, 1, 4);
    const auto host = *small->AllocateHost(5 * 2 * 3 * 4);
    const Floats some = Normals(1, 5 * 2 * 3);
    watch.largest = 0;
    ASSERT_TRUE(small->CopyFromHost(some.data(), x).ok());
    EXPECT_EQ(small.Get(x), some);
    small->CopyToHost(x, host.get(), 0);
    ASSERT_TRUE(small->Sync().ok());
    EXPECT_EQ(std::memcmp(host->data(), some.data(), 5 * 2 * 3 * 4), 0);
    EXPECT_LE(watch.largest, chunk);
    EXPECT_EQ(small.Get(all.Slice(2, 0, 1)), Floats(10, 1.0f));
  }
}

TEST_F(CudaBackendTest, ASmallReadIsOneWait) {
  WatchedRuntime::Watch watch;
  Machine device(*NewCudaBackend(std::make_unique<WatchedRuntime>(&watch)));
  const Tensor x = device.Put(Floats{1, 2}, {2});
  watch.waits = 0;
  EXPECT_EQ(device.Get(x), (Floats{1, 2}));
  EXPECT_EQ(watch.waits, 1);
}

TEST_F(CudaBackendTest, AnOperationWithoutRoomIsSaidAtTheNextWait) {
  WatchedRuntime::Watch watch;
  Machine device(*NewCudaBackend(std::make_unique<WatchedRuntime>(&watch)));
  const Tensor x = device.Put(Normals(1, 6), {2, 3});
  const Tensor w = device.Put(Floats(3, 1.0f), {3});
  const Tensor dx = device.Room(DType::kF32, {2, 3});
  const Tensor dw = device.Room(DType::kF32, {3});
  const Tensor gaps = x.Slice(1, 0, 2);
  const Floats values = Normals(2, 4);
  const auto host = *device->AllocateHost(64);
  const auto go_back = [&] {
    device->RmsNormBackward(
        {.x = x, .w = w, .eps = 1e-5f, .dy = x, .dx = dx, .dw = dw});
  };
  watch.full = true;
  for (const auto& operation : std::vector<std::function<void()>>{
           go_back, [&] { device->CheckNumbers(x, 1); },
           [&] { device->CopyToHost(gaps, host.get(), 0); }}) {
    operation();
    EXPECT_EQ(device->Sync().code(), absl::StatusCode::kResourceExhausted);
    EXPECT_TRUE(device->Sync().ok()) << "said once";
  }
  EXPECT_EQ(device->CopyFromHost(values.data(), gaps).code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(device->Sync().ok());
  EXPECT_EQ(device.Get(dw), Floats(3, 0.0f));
  watch.full = false;
  go_back();
  EXPECT_TRUE(device->Sync().ok());
  EXPECT_NE(device.Get(dw), Floats(3, 0.0f));
}

TEST_F(CudaBackendTest, WhatComesDownIsThereOnceItsEventWasWaitedFor) {
  const Tensor x = device_.Put(Floats{1, 2, 3}, {3});
  const auto host = *device_->AllocateHost(16);
  auto* const values = static_cast<float*>(host->data());
  device_->CopyToHost(x, host.get(), 4);
  const Event first = device_->Record();
  device_->Scale(10, x);
  device_->CopyToHost(x.Slice(0, 0, 1), host.get(), 0);
  const Event second = device_->Record();
  EXPECT_EQ(Floats(values, values + 4), Floats(4, 0.0f));
  ASSERT_TRUE(device_->Wait(first).ok());
  EXPECT_EQ(Floats(values, values + 4), (Floats{0, 1, 2, 3}));
  ASSERT_TRUE(device_->Wait(second).ok());
  EXPECT_EQ(Floats(values, values + 4), (Floats{10, 1, 2, 3}));
}

TEST_F(CudaBackendTest, AFaultIsSaidOnceByTheFirstEventBehindIt) {
  const Tensor table = device_.Put(Floats(6 * 2), {6, 2});
  const Tensor to = device_.Room(DType::kF32, {1, 2});
  const Tensor bad = device_.Put(std::vector<int32_t>{6}, {1});
  const Event before = device_->Record();
  device_->GatherRows(table, bad, to);
  const Event behind = device_->Record(), later = device_->Record();
  EXPECT_TRUE(device_->Wait(before).ok());
  EXPECT_EQ(device_->Wait(behind), StatusOf(DeviceFault::kRow));
  EXPECT_TRUE(device_->Wait(later).ok()) << "said once";
  EXPECT_TRUE(device_->Sync().ok());
  // Again, and waited for when many events have passed.
  device_->GatherRows(table, bad, to);
  const Event old = device_->Record();
  for (int i = 0; i < 20; ++i) device_->Record();
  EXPECT_EQ(device_->Wait(old), StatusOf(DeviceFault::kRow));
  EXPECT_TRUE(device_->Sync().ok());
}

TEST_F(CudaBackendTest, WeightsThatItHasNoKernelsForAreRefusedByName) {
  for (const DType type : {DType::kBF16, DType::kF8E4M3}) {
    const auto weight = device_->NewWeight({.out = 1, .in = 1, .dtype = type});
    EXPECT_EQ(weight.status().code(), absl::StatusCode::kUnimplemented);
    EXPECT_THAT(std::string(weight.status().message()),
                testing::AllOf(testing::HasSubstr(DTypeName(type)),
                               testing::HasSubstr("set numerics to fp32")));
  }
}

TEST_F(CudaBackendTest, BatchesAreRoundedUpToPowersOfTwo) {
  EXPECT_EQ(device_->BucketRows(1), 1);
  EXPECT_EQ(device_->BucketRows(5), 8);
  EXPECT_EQ(device_->BucketRows(64), 64);
}

// A normalised product, its log-probability among those of a small vocabulary,
// and what of it comes down: with scratch, a weight and a copy.
struct Step {
  static constexpr int64_t kRows = 5, kIn = 7, kVocabulary = 19;

  explicit Step(Machine* on)
      : machine(*on),
        x(on->Room(DType::kF32, {kRows, kIn})),
        rows(on->Put(std::vector<int32_t>{0, 3, 1, 18, 2}, {kRows})),
        w(on->Put(Normals(2, kIn), {kIn})),
        out(on->Room(DType::kF32, {3, kRows})),
        head(*machine->NewWeight({.out = kVocabulary, .in = kIn})),
        host(*machine->AllocateHost(3 * kRows * 4)) {
    machine->SetWeight(
        on->Put(Normals(3, kVocabulary * kIn), {1, kVocabulary, kIn}),
        head.get());
  }
  void Enqueue() {
    machine->RmsNorm(x, w, 1e-5f, x);
    machine->LogProb({.x = x,
                      .w = head.get(),
                      .targets = rows,
                      .logp = out.Slice(0, 0, 1).Reshape({kRows}),
                      .lse = out.Slice(0, 1, 2).Reshape({kRows}),
                      .entropy = out.Slice(0, 2, 3).Reshape({kRows})});
    machine->CheckNumbers(x, 1e3);
    machine->CopyToHost(out, host.get(), 0);
  }
  Floats Result() {
    EXPECT_TRUE(machine->Wait(machine->Record()).ok());
    const auto* values = static_cast<const float*>(host->data());
    return Floats(values, values + 3 * kRows);
  }
  void SetInput(uint64_t seed) {
    const Floats values = Normals(seed, kRows * kIn);
    EXPECT_TRUE(machine->CopyFromHost(values.data(), x).ok());
  }

  Machine& machine;
  Tensor x, rows, w, out;
  std::unique_ptr<Weight> head;
  std::unique_ptr<HostBuffer> host;
};

TEST_F(CudaBackendTest, AGraphIsItsOperationsWithTheValuesOfTheDay) {
  // The CPU has none, and calls nothing.
  auto none = scalar_->Capture([] { FAIL(); });
  ASSERT_TRUE(none.ok()) << none.status();
  EXPECT_EQ(*none, nullptr);
  Step plain(&scalar_), step(&device_);
  // Nothing ran before, so that the capture has no scratch yet.
  auto graph = device_->Capture([&] { step.Enqueue(); });
  ASSERT_TRUE(graph.ok()) << graph.status();
  step.SetInput(4);
  EXPECT_EQ(step.Result(), Floats(3 * Step::kRows, 0.0f)) << "it ran";
  for (const uint64_t seed : {5, 6}) {
    step.SetInput(seed);
    // Another takes more scratch between: the graph keeps its own.
    Floats big = Normals(8, 64 * 300);
    const Tensor wide = device_.Put(big, {64, 300});
    const Tensor dw = device_.Room(DType::kF32, {300});
    device_->RmsNormBackward({.x = wide,
                              .w = device_.Put(Floats(300, 1), {300}),
                              .eps = 1e-5f,
                              .dy = wide,
                              .dx = wide,
                              .dw = dw});
    device_->Replay(**graph);
    plain.SetInput(seed);
    plain.Enqueue();
    EXPECT_EQ(step.Result(), plain.Result());
  }
  // A fault within a graph is said as any other.
  const Floats huge(Step::kRows * Step::kIn, HUGE_VALF);
  ASSERT_TRUE(device_->CopyFromHost(huge.data(), step.x).ok());
  device_->Replay(**graph);
  EXPECT_EQ(device_->Sync(), StatusOf(DeviceFault::kNumbers));
}

// What has gaps comes down through scratch, of which there is none yet.
TEST_F(CudaBackendTest, AGraphBringsDownWhatHasGaps) {
  const Tensor x = device_.Room(DType::kF32, {4, 3}).Slice(1, 0, 2);
  const auto host = *device_->AllocateHost(4 * 2 * 4);
  auto graph = device_->Capture([&] { device_->CopyToHost(x, host.get(), 0); });
  ASSERT_TRUE(graph.ok()) << graph.status();
  const Floats values = Normals(1, 4 * 2);
  ASSERT_TRUE(device_->CopyFromHost(values.data(), x).ok());
  device_->Replay(**graph);
  ASSERT_TRUE(device_->Sync().ok());
  EXPECT_EQ(std::memcmp(host->data(), values.data(), 4 * 2 * 4), 0);
}

TEST_F(CudaBackendTest, WhatNoGraphCanHoldEndsTheProcess) {
  const Tensor x = device_.Room(DType::kF32, {4});
  auto buffer = *device_->Allocate(1);
  const float value = 0;
  EXPECT_DEATH((void)device_->Capture([&] {
    (void)device_->CopyFromHost(&value, x.Slice(0, 0, 1));
  }),
               "in a capture");
  EXPECT_DEATH((void)device_->Capture([&] { (void)device_->Sync(); }),
               "in a capture");
  EXPECT_DEATH((void)device_->Capture([&] { (void)device_->Allocate(1); }),
               "in a capture");
  EXPECT_DEATH((void)device_->Capture([&] { (void)device_->AllocateHost(1); }),
               "in a capture");
  EXPECT_DEATH((void)device_->Capture([&] { buffer.reset(); }),
               "freed in a capture");
}

// y of a weight on both machines, and its gradient.
void ExpectSameProducts(Machine* a, Machine* b, int64_t rows, int64_t out,
                        int64_t in) {
  std::vector<Floats> results;
  for (Machine* machine : {a, b}) {
    const auto weight = *(*machine)->NewWeight({.out = out, .in = in});
    (*machine)->SetWeight(machine->Put(Normals(1, out * in), {1, out, in}),
                          weight.get());
    const Tensor x = machine->Put(Normals(2, rows * in), {rows, in});
    const Tensor y = machine->Room(DType::kF32, {rows, out});
    const Tensor back = machine->Room(DType::kF32, {rows, in});
    const Tensor dw = machine->Put(Normals(3, out * in), {out, in});
    (*machine)->Linear(x, *weight, Use::kForward, y);
    (*machine)->Linear(y, *weight, Use::kTransposed, back);
    (*machine)->LinearWeightGrad({.x = x, .dy = y, .dw = dw});
    for (const Tensor& result : {y, back, dw}) {
      results.push_back(machine->Get(result));
    }
  }
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(std::memcmp(results[i].data(), results[i + 3].data(),
                          results[i].size() * sizeof(float)),
              0)
        << rows << " rows, " << out << " of " << in << ", result " << i;
  }
}

// Every tile, whole and not: which is taken hangs on the outputs alone.
TEST_F(CudaBackendTest, ProductsHaveTheCpusBitsWhateverTheTile) {
  for (const int64_t rows : {1, 2, 3, 5, 8, 9, 15, 16, 17, 31, 33, 64, 100}) {
    ExpectSameProducts(&scalar_, &device_, rows, 37, 21);
  }
  ExpectSameProducts(&scalar_, &device_, 257, 150, 5);  // 16 x 16
  ExpectSameProducts(&scalar_, &device_, 403, 419, 3);  // 32 x 32
  ExpectSameProducts(&scalar_, &device_, 741, 773, 3);  // 64 x 64
  ExpectSameProducts(&scalar_, &device_, 1, 5000, 33);
}

}  // namespace
}  // namespace temper
