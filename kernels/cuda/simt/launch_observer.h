// Who is given launches in place of their being run: a graph keeps them, a test
// of grids counts them.
//
// Not thread-safe, as the emulator.

#ifndef KERNELS_CUDA_SIMT_LAUNCH_OBSERVER_H_
#define KERNELS_CUDA_SIMT_LAUNCH_OBSERVER_H_

#include <cstddef>
#include <functional>

#include "kernels/cuda/simt/vector_types.h"

namespace temper::simt {

class LaunchObserver {
 public:
  virtual ~LaunchObserver() = default;
  // `run` runs the grid, with the arguments that the launch had, whenever and
  // as often as it is called.
  virtual void OnLaunch(const char* kernel, dim3 grid, dim3 block,
                        size_t shared_bytes, std::function<void()> run) = 0;
};

// From now on; null: launches run. `observer` must outlive its time.
void SetLaunchObserver(LaunchObserver* observer);
LaunchObserver* TheLaunchObserver();

}  // namespace temper::simt

#endif  // KERNELS_CUDA_SIMT_LAUNCH_OBSERVER_H_
