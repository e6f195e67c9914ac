// How a launch reaches the emulator: TEMPER_LAUNCH without nvcc.

#ifndef KERNELS_CUDA_SIMT_LAUNCH_H_
#define KERNELS_CUDA_SIMT_LAUNCH_H_

#include <cstddef>
#include <tuple>

#include "kernels/cuda/simt/launch_observer.h"
#include "kernels/cuda/simt/vector_types.h"

namespace temper::simt {

// Runs the grid; `run_thread` is called once a thread with `arguments`.
void LaunchGrid(const char* kernel, dim3 grid, dim3 block, size_t shared_bytes,
                void (*run_thread)(const void* arguments),
                const void* arguments, size_t arguments_bytes);

// Converts the arguments as a call of the kernel would, and copies them.
template <typename... Parameters, typename... Arguments>
void Launch(const char* name, void (*kernel)(Parameters...), dim3 grid,
            dim3 block, size_t shared_bytes, Arguments&&... arguments) {
  struct Call {
    void (*kernel)(Parameters...);
    std::tuple<std::decay_t<Parameters>...> arguments;
  };
  const Call call = {kernel, {static_cast<Parameters>(arguments)...}};
  const auto run = [name, grid, block, shared_bytes, call] {
    LaunchGrid(
        name, grid, block, shared_bytes,
        [](const void* opaque) {
          const Call& call = *static_cast<const Call*>(opaque);
          std::apply(call.kernel, call.arguments);
        },
        &call, sizeof(call));
  };
  if (LaunchObserver* observer = TheLaunchObserver()) {
    observer->OnLaunch(name, grid, block, shared_bytes, run);
  } else {
    run();
  }
}

}  // namespace temper::simt

#endif  // KERNELS_CUDA_SIMT_LAUNCH_H_
