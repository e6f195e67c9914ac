#include "kernels/cuda/simt/barrier.h"

#include <array>
#include <bit>
#include <string>
#include <vector>

#include "kernels/cuda/simt/access.h"
#include "kernels/cuda/simt/block.h"
#include "kernels/cuda/simt/order.h"
#include "kernels/cuda/simt/report.h"

namespace temper::simt {
namespace {

constexpr uint32_t kWarps = kBlockThreadsMax / kWarpLanes;

struct BarrierState {
  bool open = false;  // somebody has arrived
  uint32_t threads = kWholeBlock;
  std::array<uint32_t, kWarps> arrived = {};  // a bit a lane
  uint32_t arrived_count = 0;
  std::array<Where, kWarps> first_line = {};  // of the warps that came
  std::vector<Thread*> waiting;
  bool has_left = false;  // somebody has arrived and gone on
  Handover of_those_who_left;
};

std::array<BarrierState, kBarriers> barriers;
uint32_t open_barriers = 0;  // how many are

bool Complete(const BarrierState& barrier) {
  Block& block = Block::Get();
  if (barrier.threads == kWholeBlock &&
      barrier.arrived_count < block.alive_count()) {
    return false;
  }
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

// `last` is who came last, if that one would have waited.
void Release(BarrierState& barrier, const Thread* last) {
  Block& block = Block::Get();
  Order& order = Order::Get();
  std::vector<ActorId> actors;
  if (last != nullptr) actors.push_back(ActorOf(*last));
  for (Thread* thread : barrier.waiting) {
    actors.push_back(ActorOf(*thread));
    block.MakeReady(*thread);
  }
  order.Meet(actors);
  if (barrier.has_left) {
    for (const ActorId actor : actors) {
      order.Acquire(actor, barrier.of_those_who_left);
    }
  }
  barrier = BarrierState();
  --open_barriers;
}

BarrierState& Arrive(uint32_t number, uint32_t threads, Where where) {
  const Thread& thread = *Block::Get().current();
  const Site site = Site::OfCall(where);
  if (number >= kBarriers || threads % kWarpLanes != 0 ||
      threads > kBlockThreadsMax) {
    Fail("barrier misuse",
         "barrier " + std::to_string(number) + " of " +
             std::to_string(threads) + " threads: there are 16, of whole warps",
         site);
  }
  BarrierState& barrier = barriers[number];
  if (barrier.open && barrier.threads != threads) {
    Fail("barrier misuse",
         "barrier " + std::to_string(number) + " of " +
             std::to_string(threads) + " threads, of " +
             std::to_string(barrier.threads) + " for those who wait there",
         site);
  }
  const Where& first = barrier.first_line[thread.warp];
  if (barrier.arrived[thread.warp] != 0 && first.line != where.line) {
    Fail("divergent barrier",
         "another thread of the warp came there at " +
             Site::OfCall(first).Text(),
         site);
  }
  barrier.first_line[thread.warp] = where;
  if (!barrier.open) ++open_barriers;
  barrier.open = true;
  barrier.threads = threads;
  barrier.arrived[thread.warp] |= 1u << thread.lane;
  ++barrier.arrived_count;
  return barrier;
}

}  // namespace

void BarrierSync(uint32_t number, uint32_t threads, Where where) {
  const InEmulator in_emulator;
  BarrierState& barrier = Arrive(number, threads, where);
  Block& block = Block::Get();
  if (Complete(barrier)) {
    Release(barrier, block.current());
    return;
  }
  barrier.waiting.push_back(block.current());
  block.Wait(number == 0 ? "a barrier of the block" : "a named barrier",
             Site::OfCall(where));
}

void BarrierArrive(uint32_t number, uint32_t threads, Where where) {
  const InEmulator in_emulator;
  BarrierState& barrier = Arrive(number, threads, where);
  barrier.has_left = true;
  Order::Get().Release(ActorOf(*Block::Get().current()),
                       barrier.of_those_who_left);
  if (Complete(barrier)) Release(barrier, nullptr);
}

void BeginBarriers() {
  if (open_barriers == 0) return;  // as after every block that ended
  barriers.fill(BarrierState());
  open_barriers = 0;
}

void EndThreadOfBarriers(const Thread&) {
  if (open_barriers == 0) return;
  for (BarrierState& barrier : barriers) {
    if (barrier.open && Complete(barrier)) Release(barrier, nullptr);
  }
}

}  // namespace temper::simt
