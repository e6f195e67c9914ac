// Stacks to switch between: what one OS thread needs to run every thread of an
// emulated block in turn. A switch saves six registers and takes a few
// nanoseconds; the float mode is the OS thread's and is not touched.

#ifndef KERNELS_CUDA_SIMT_FIBER_H_
#define KERNELS_CUDA_SIMT_FIBER_H_

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/simt/memory.h"

namespace temper::simt {

// A stack, and where on it a computation stands. Whoever keeps a fiber keeps it
// until the process ends or until nothing runs on it.
//
// Not thread-safe: all fibers of a process belong to one OS thread.
class Fiber {
 public:
  // The OS thread's own stack, as a place to come back to.
  Fiber() = default;
  // A stack of its own with an unmapped page below it, on which the first
  // switch calls `entry`, which must never return.
  explicit Fiber(void (*entry)());
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Leaves the computation that runs, whose place `from` keeps, and goes on
  // with `to`'s. Returns when somebody switches to `from`.
  static void Switch(Fiber& from, Fiber& to);

  // Forgets what stands on the stack: the next switch calls `entry` again.
  // Nothing on it is destroyed, so kernels own nothing.
  void Restart();

  Region stack() const { return {low_, kStackBytes}; }

  static constexpr size_t kStackBytes = 256 << 10;  // touched as it is used

 private:
  // What a fresh stack returns into.
  static void Begin();

  void (*const entry_)() = nullptr;
  void* top_ = nullptr;  // of the saved registers, while it does not run
  uintptr_t low_ = 0;    // of the stack; 0 for the OS thread's
};

}  // namespace temper::simt

#endif  // KERNELS_CUDA_SIMT_FIBER_H_
