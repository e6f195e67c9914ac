#include "kernels/cuda/gpu_runtime.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"

namespace temper::cuda {
namespace {

std::string Words(cudaError_t error) {
  return absl::StrCat(cudaGetErrorName(error), ": ", cudaGetErrorString(error));
}

absl::Status ErrorOf(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("cuda: ", what, ": ", Words(error)));
}

// The driver's own version, and the newest CUDA that it speaks; empty: there is
// none.
std::string DriverVersion() {
  int cuda = 0;
  if (cudaDriverGetVersion(&cuda) != cudaSuccess || cuda == 0) return "";
  const std::string speaks =
      absl::StrCat("CUDA ", cuda / 1000, ".", cuda % 1000 / 10);
  std::ifstream file("/sys/module/nvidia/version");
  std::string version;
  return file >> version ? absl::StrCat(version, ", ", speaks) : speaks;
}

class GpuRuntime final : public Runtime {
 public:
  GpuRuntime() = default;
  ~GpuRuntime() override {
    for (const cudaEvent_t event : events_) {
      if (event != nullptr) cudaEventDestroy(event);
    }
    if (stream_ != nullptr) cudaStreamDestroy(stream_);
  }
  GpuRuntime(const GpuRuntime&) = delete;
  GpuRuntime& operator=(const GpuRuntime&) = delete;

  absl::Status Start() {
    RETURN_IF_ERROR(
        ErrorOf(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking),
                "a stream"));
    for (cudaEvent_t& event : events_) {
      RETURN_IF_ERROR(
          ErrorOf(cudaEventCreateWithFlags(&event, cudaEventDisableTiming),
                  "an event"));
    }
    return absl::OkStatus();
  }

  Stream stream() const override { return stream_; }

  absl::StatusOr<void*> Allocate(int64_t bytes) override {
    void* memory = nullptr;
    KeepLaunches();
    const cudaError_t error = cudaMalloc(&memory, static_cast<size_t>(bytes));
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();  // it is no failure of the device
      return absl::ResourceExhaustedError(
          absl::StrCat("no memory on the GPU for a buffer of ", bytes,
                       " bytes; use a smaller batch or model"));
    }
    RETURN_IF_ERROR(ErrorOf(error, "cudaMalloc"));
    Zero(memory, bytes);
    return memory;
  }
  void Free(void* memory) override { Keep(cudaFree(memory), "cudaFree"); }

  absl::StatusOr<void*> AllocateHost(int64_t bytes) override {
    void* memory = nullptr;
    KeepLaunches();
    const cudaError_t error =
        cudaMallocHost(&memory, static_cast<size_t>(bytes));
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      return absl::ResourceExhaustedError(
          absl::StrCat("no memory that can be page-locked for a buffer of ",
                       bytes, " bytes; use a smaller batch"));
    }
    RETURN_IF_ERROR(ErrorOf(error, "cudaMallocHost"));
    std::fill_n(static_cast<char*>(memory), bytes, '\0');
    return memory;
  }
  void FreeHost(void* memory) override {
    Keep(cudaFreeHost(memory), "cudaFreeHost");
  }

  void CopyUp(const void* host, void* device, int64_t bytes) override {
    CopyBy(host, device, bytes, cudaMemcpyHostToDevice);
  }
  void CopyDown(const void* device, void* host, int64_t bytes) override {
    CopyBy(device, host, bytes, cudaMemcpyDeviceToHost);
  }
  void Zero(void* device, int64_t bytes) override {
    Keep(cudaMemsetAsync(device, 0, static_cast<size_t>(bytes), stream_),
         "cudaMemsetAsync");
  }

  void Record(int event) override {
    Keep(cudaEventRecord(events_[event], stream_), "cudaEventRecord");
  }
  absl::Status Wait(int event) override {
    KeepLaunches();
    Keep(cudaEventSynchronize(events_[event]), "cudaEventSynchronize");
    return failure_;
  }

  absl::Status BeginCapture() override {
    KeepLaunches();
    RETURN_IF_ERROR(failure_);
    RETURN_IF_ERROR(ErrorOf(
        cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal),
        "cudaStreamBeginCapture"));
    capturing_ = true;
    return absl::OkStatus();
  }
  absl::StatusOr<void*> EndCapture() override {
    capturing_ = false;
    KeepLaunches();
    cudaGraph_t graph = nullptr;
    RETURN_IF_ERROR(
        ErrorOf(cudaStreamEndCapture(stream_, &graph), "cudaStreamEndCapture"));
    cudaGraphExec_t runnable = nullptr;
    const cudaError_t error = cudaGraphInstantiate(&runnable, graph, 0);
    cudaGraphDestroy(graph);
    RETURN_IF_ERROR(ErrorOf(error, "cudaGraphInstantiate"));
    return static_cast<void*>(runnable);
  }
  bool capturing() const override { return capturing_; }
  void Replay(void* graph) override {
    Keep(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph), stream_),
         "cudaGraphLaunch");
  }
  void FreeGraph(void* graph) override {
    Keep(cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph)),
         "cudaGraphExecDestroy");
  }

 private:
  void CopyBy(const void* from, void* to, int64_t bytes, cudaMemcpyKind kind) {
    Keep(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), kind, stream_),
         "cudaMemcpyAsync");
  }

  // CUDA's last error is that of launches, until another call sets it: asked
  // for before each that forgives one.
  void KeepLaunches() { Keep(cudaGetLastError(), "a launch"); }

  // The first failure stands: what comes after it is its consequence.
  void Keep(cudaError_t error, const char* what) {
    if (failure_.ok()) failure_ = ErrorOf(error, what);
  }

  cudaStream_t stream_ = nullptr;
  std::array<cudaEvent_t, kRuntimeEvents> events_ = {};
  absl::Status failure_;
  bool capturing_ = false;
};

}  // namespace

GpuSurvey SurveyGpus() {
  GpuSurvey survey;
  survey.driver = DriverVersion();
  int devices = 0;
  const cudaError_t found = cudaGetDeviceCount(&devices);
  if (found != cudaSuccess || devices == 0) {
    cudaGetLastError();  // it is told here
    survey.missing = absl::StrCat(
        "no GPU that CUDA can use: ",
        found == cudaSuccess ? "the driver sees none" : Words(found));
    survey.remedy =
        "`nvidia-smi` tells what the driver sees, and the driver must be one "
        "of CUDA 13";
    return survey;
  }
  for (int i = 0; i < devices; ++i) {
    cudaDeviceProp properties;
    int mode = 0;
    cudaError_t read = cudaGetDeviceProperties(&properties, i);
    if (read == cudaSuccess) {
      read = cudaDeviceGetAttribute(&mode, cudaDevAttrComputeMode, i);
    }
    if (read != cudaSuccess && i > 0) {
      cudaGetLastError();  // nothing is computed on it
      continue;
    }
    if (read != cudaSuccess) {
      survey.missing =
          absl::StrCat("GPU ", i, " cannot be asked: ", Words(read));
      survey.remedy = "`nvidia-smi` tells what the driver sees";
      return survey;
    }
    std::string lack = LackOf(properties.major, properties.minor, mode);
    if (i == 0 && !lack.empty()) {
      survey.missing = absl::StrCat("the GPU ", properties.name, " ", lack);
      survey.remedy = "if there is another, name it by CUDA_VISIBLE_DEVICES";
    }
    survey.devices.push_back({properties.name,
                              static_cast<int64_t>(properties.totalGlobalMem),
                              std::move(lack)});
  }
  return survey;
}

absl::StatusOr<std::unique_ptr<Runtime>> NewGpuRuntime() {
  const GpuSurvey survey = SurveyGpus();
  if (!survey.missing.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat(survey.missing, "; ", survey.remedy));
  }
  RETURN_IF_ERROR(ErrorOf(cudaSetDevice(0), "cudaSetDevice"));
  auto runtime = std::make_unique<GpuRuntime>();
  RETURN_IF_ERROR(runtime->Start());
  return std::unique_ptr<Runtime>(std::move(runtime));
}

}  // namespace temper::cuda
