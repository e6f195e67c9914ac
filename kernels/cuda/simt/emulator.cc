#include "kernels/cuda/simt/emulator.h"

#include <cstdlib>
#include <cstring>
#include <numeric>
#include <vector>

#include "kernels/base/log.h"
#include "kernels/cuda/simt/block.h"
#include "kernels/cuda/simt/launch.h"
#include "kernels/cuda/simt/memory.h"

namespace temper::simt {
namespace {

// The ranks of a grid's blocks, in the schedule's order.
std::vector<uint64_t> BlockOrder(uint64_t count) {
  Block& block = Block::Get();
  std::vector<uint64_t> order(count);
  std::iota(order.begin(), order.end(), uint64_t{0});
  if (block.policy() == Policy::kAscending) return order;
  if (block.policy() == Policy::kDescending) {
    return {order.rbegin(), order.rend()};
  }
  for (uint64_t i = count; i > 1; --i) {
    std::swap(order[i - 1], order[block.Draw() % i]);
  }
  return order;
}

}  // namespace

void SetSchedule(uint64_t seed) { Block::Get().SetSeed(seed); }

void FinishLaunches() {}

void LaunchGrid(const char* kernel, dim3 grid, dim3 block, size_t shared_bytes,
                void (*run_thread)(const void*), const void* arguments,
                size_t arguments_bytes) {
  CHECK(grid.x > 0 && grid.x <= 0x7FFFFFFF && grid.y > 0 && grid.y <= 65535 &&
        grid.z > 0 && grid.z <= 65535)
      << kernel << " is launched with a grid of " << grid.x << " by " << grid.y
      << " by " << grid.z;
  CHECK(block.z <= 64) << kernel << " has blocks of " << block.z << " along z";
  Launched launched;
  launched.kernel = kernel;
  launched.grid = grid;
  launched.block = block;
  launched.run_thread = run_thread;
  launched.arguments = arguments;
  launched.arguments_bytes = arguments_bytes;
  BeginLaunch(shared_bytes);
  const uint64_t count = uint64_t{grid.x} * grid.y * grid.z;
  for (const uint64_t rank : BlockOrder(count)) {
    launched.block_index = {static_cast<unsigned>(rank % grid.x),
                            static_cast<unsigned>(rank / grid.x % grid.y),
                            static_cast<unsigned>(rank / grid.x / grid.y)};
    if (!Block::Get().Run(launched)) break;
  }
}

}  // namespace temper::simt
