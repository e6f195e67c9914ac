#include "kernels/cuda/simt/barrier.h"

#include <array>
#include <bit>
#include <string>
#include <vector>

#include "kernels/cuda/simt/block.h"
#include "kernels/cuda/simt/report.h"

namespace temper::simt {
namespace {

constexpr uint32_t kWarps = kBlockThreadsMax / kWarpLanes;

struct BarrierState {
  bool open = false;  // somebody has arrived
  uint32_t threads = kWholeBlock;
  std::array<uint32_t, kWarps> arrived = {};  // a bit a lane
  std::vector<Thread*> waiting;
};

std::array<BarrierState, kBarriers> barriers;

bool Complete(const BarrierState& barrier) {
  Block& block = Block::Get();
  uint32_t counted = 0;
  for (uint32_t warp = 0; warp < block.warp_count(); ++warp) {
    const uint32_t arrived = barrier.arrived[warp];
    const uint32_t missing = block.alive_lanes(warp) & ~arrived;
    if (barrier.threads == kWholeBlock) {
      if (missing != 0) return false;
    } else if (arrived != 0) {
      counted += missing == 0 ? kWarpLanes : std::popcount(arrived);
    }
  }
  return counted >= barrier.threads;
}

void Release(BarrierState& barrier) {
  Block& block = Block::Get();
  for (Thread* thread : barrier.waiting) block.MakeReady(*thread);
  barrier.waiting.clear();
  barrier.arrived = {};
  barrier.open = false;
}

BarrierState& Arrive(uint32_t number, uint32_t threads, Where where) {
  const Thread& thread = *Block::Get().current();
  if (number >= kBarriers || threads % kWarpLanes != 0 ||
      threads > kBlockThreadsMax) {
    Fail("barrier misuse",
         "barrier " + std::to_string(number) + " of " +
             std::to_string(threads) + " threads: there are 16, of whole warps",
         where);
  }
  BarrierState& barrier = barriers[number];
  if (barrier.open && barrier.threads != threads) {
    Fail("barrier misuse",
         "barrier " + std::to_string(number) + " of " +
             std::to_string(threads) + " threads, of " +
             std::to_string(barrier.threads) + " for those who wait there",
         where);
  }
  for (const Thread* other : barrier.waiting) {
    if (other->warp == thread.warp && other->where.line() != where.line()) {
      Fail(
          "divergent barrier",
          NameOf(*other) + " of the same warp waits at " + LineOf(other->where),
          where);
    }
    if (other->warp == thread.warp) break;
  }
  barrier.open = true;
  barrier.threads = threads;
  barrier.arrived[thread.warp] |= 1u << thread.lane;
  return barrier;
}

}  // namespace

void BarrierSync(uint32_t number, uint32_t threads, Where where) {
  BarrierState& barrier = Arrive(number, threads, where);
  if (Complete(barrier)) {
    Release(barrier);
    return;
  }
  Block& block = Block::Get();
  barrier.waiting.push_back(block.current());
  block.Wait(number == 0 ? "a barrier of the block" : "a named barrier", where);
}

void BarrierArrive(uint32_t number, uint32_t threads, Where where) {
  BarrierState& barrier = Arrive(number, threads, where);
  if (Complete(barrier)) Release(barrier);
}

void BeginBarriers() {
  for (BarrierState& barrier : barriers) {
    barrier.open = false;
    barrier.arrived = {};
    barrier.waiting.clear();
  }
}

void EndThreadOfBarriers(const Thread&) {
  for (BarrierState& barrier : barriers) {
    if (barrier.open && Complete(barrier)) Release(barrier);
  }
}

}  // namespace temper::simt
