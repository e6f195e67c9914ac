// How much was asked of the units that work beside the threads: what a test
// holds against the bytes and multiplications that a kernel's plan names.
//
// Not thread-safe, as the emulator.

#ifndef KERNELS_CUDA_SIMT_WORK_H_
#define KERNELS_CUDA_SIMT_WORK_H_

#include <cstdint>

namespace temper::simt {

struct Work {
  // Of tensors, read by bulk copies; what lies outside of them is not read.
  uint64_t bytes_copied = 0;
  // Multiplications of one element by another that wgmma was asked for, those
  // of padding too.
  uint64_t multiplications = 0;
};

// Since it was last asked.
Work TakeWork();

// By copies and products, when they begin.
void NoteWork(const Work& work);

}  // namespace temper::simt

#endif  // KERNELS_CUDA_SIMT_WORK_H_
