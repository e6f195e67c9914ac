// What CudaBackend asks of a device beside its kernels: memory, copies, events,
// graphs. One implementation is CUDA's runtime (gpu_runtime.h), one the
// emulator's memory for tests (testing/simt_runtime.cc).
//
// All but waits and allocations enqueue on the one stream and return; what
// fails there the next wait says. Not thread-safe.

#ifndef KERNELS_CUDA_RUNTIME_H_
#define KERNELS_CUDA_RUNTIME_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/cuda/launch.h"

namespace temper::cuda {

// Events that a runtime has, by number from 0. Recording one again forgets
// where it was before.
inline constexpr int kRuntimeEvents = 9;

class Runtime {
 public:
  virtual ~Runtime() = default;

  virtual Stream stream() const = 0;

  // Zeroed, 256-byte aligned. ResourceExhausted if there is no room. Nothing is
  // allocated or freed in a capture.
  virtual absl::StatusOr<void*> Allocate(int64_t bytes) = 0;
  virtual void Free(void* memory) = 0;
  // Of the host, page-locked, zeroed.
  virtual absl::StatusOr<void*> AllocateHost(int64_t bytes) = 0;
  virtual void FreeHost(void* memory) = 0;

  // Between the device and page-locked memory of the host, which must stay as
  // it is until an event recorded later was waited for.
  virtual void CopyUp(const void* host, void* device, int64_t bytes) = 0;
  virtual void CopyDown(const void* device, void* host, int64_t bytes) = 0;
  virtual void Zero(void* device, int64_t bytes) = 0;

  virtual void Record(int event) = 0;
  // Internal, naming the device's words, if it failed; then all later waits do.
  virtual absl::Status Wait(int event) = 0;

  // What is enqueued between the two is kept, not run.
  virtual absl::Status BeginCapture() = 0;
  virtual absl::StatusOr<void*> EndCapture() = 0;
  virtual bool capturing() const = 0;
  virtual void Replay(void* graph) = 0;
  virtual void FreeGraph(void* graph) = 0;
};

}  // namespace temper::cuda

#endif  // KERNELS_CUDA_RUNTIME_H_
