// What a backend (kernels/ops/backend.h) hands out: memory, places in its
// queue, packed weights, captured operations. Each is opaque above the backend
// that made it.

#ifndef KERNELS_OPS_DEVICE_OBJECTS_H_
#define KERNELS_OPS_DEVICE_OBJECTS_H_

#include <cstdint>

namespace temper {

// Owns device memory, zeroed, 64-byte aligned; freed with its last owner.
class Buffer {
 public:
  virtual ~Buffer() = default;
  virtual void* data() const = 0;
  virtual int64_t bytes() const = 0;
};

// Memory of the host that a device copies into by itself (page-locked, where
// that means something). Freed with its last owner.
class HostBuffer {
 public:
  virtual ~HostBuffer() = default;
  virtual void* data() const = 0;
  virtual int64_t bytes() const = 0;
};

// A place in a backend's queue.
struct Event {
  uint64_t number = 0;
};

// Operations to be enqueued again (Capture), as long as the tensors and weights
// that they were given are there.
class Graph {
 public:
  virtual ~Graph() = default;
};

// A backend's own packing of a matrix (or a stack of them), made by NewWeight
// and filled by SetWeight. Opaque above the backend; packings never travel.
class Weight {
 public:
  virtual ~Weight() = default;
};

}  // namespace temper

#endif  // KERNELS_OPS_DEVICE_OBJECTS_H_
