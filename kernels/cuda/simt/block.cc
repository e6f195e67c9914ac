#include "kernels/cuda/simt/block.h"

#include <bit>
#include <map>
#include <string>

#include "kernels/base/log.h"
#include "kernels/cuda/simt/access.h"
#include "kernels/cuda/simt/barrier.h"
#include "kernels/cuda/simt/copy.h"
#include "kernels/cuda/simt/mbarrier.h"
#include "kernels/cuda/simt/memory.h"
#include "kernels/cuda/simt/order.h"
#include "kernels/cuda/simt/report.h"
#include "kernels/cuda/simt/tensor_copy.h"
#include "kernels/cuda/simt/warp.h"
#include "kernels/cuda/simt/wgmma.h"

namespace temper::simt {
namespace {

// Of threads that poll while nobody else gets on: enough for any flag that a
// thread of the block still sets.
constexpr uint32_t kPollsMax = 1 << 20;

// The lowest bit of `mask` at or above `from`, else the lowest of all.
uint32_t NextBit(uint32_t mask, uint32_t from) {
  const uint32_t above = from < kWarpLanes ? mask >> from << from : 0;
  return std::countr_zero(above != 0 ? above : mask);
}

uint32_t PreviousBit(uint32_t mask, uint32_t upto) {
  const uint32_t below = mask & (0xffffffffu >> (kWarpLanes - 1 - upto));
  return std::bit_width(below != 0 ? below : mask) - 1;
}

uint32_t DrawnBit(uint32_t mask, uint64_t drawn) {
  return NextBit(mask, drawn % kWarpLanes);
}

}  // namespace

Block* const Block::instance_ = new Block;

void Block::SetSeed(uint64_t seed) {
  policy_ = static_cast<Policy>(seed % kPolicies);
  random_ = seed;
}

// SplitMix64.
uint64_t Block::Draw() {
  uint64_t z = random_ += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

void Block::Begin(const Launched& launched) {
  launched_ = &launched;
  const dim3& size = launched.block;
  thread_count_ = size.x * size.y * size.z;
  CHECK(thread_count_ > 0 && thread_count_ <= kBlockThreadsMax)
      << launched.kernel << " is launched with blocks of " << thread_count_
      << " threads; 1 to " << kBlockThreadsMax;
  ready_warps_ = 0;
  for (uint32_t rank = 0; rank < thread_count_; ++rank) {
    Thread& thread = threads_[rank];
    thread.rank = rank;
    thread.warp = rank / kWarpLanes;
    thread.lane = rank % kWarpLanes;
    thread.index = {rank % size.x, rank / size.x % size.y,
                    rank / (size.x * size.y)};
    thread.state = ThreadState::kReady;
    thread.fiber = nullptr;
    thread.awaits = nullptr;
    thread.missing_arrivals = nullptr;
    thread.missing_bytes = nullptr;
  }
  for (uint32_t warp = 0; warp < warp_count(); ++warp) {
    const uint32_t lanes = thread_count_ - warp * kWarpLanes;
    alive_[warp] = ready_[warp] =
        lanes >= kWarpLanes ? 0xffffffffu : (1u << lanes) - 1;
    ready_warps_ |= 1u << warp;
  }
  alive_count_ = thread_count_;
  last_rank_ = policy_ == Policy::kDescending ? 0 : thread_count_ - 1;
  polls_ = 0;
  leaves_warp_ = false;
  abandoned_ = false;
  BeginMemory();
  ForgetRegions();
  Order::Get().BeginBlock(thread_count_);
  BeginBarriers();
  BeginWarps();
  BeginCopies();
  BeginMbarriers();
  BeginTensorCopies();
  BeginMultiplies();
}

bool Block::Run(const Launched& launched) {
  CHECK(current_ == nullptr) << "a kernel is launched by another";
  Begin(launched);
  Fiber::Switch(os_thread_, FiberOf(*Pick()));
  current_ = nullptr;
  WatchThread(nullptr);
  if (!abandoned_) return true;
  idle_.clear();
  for (const auto& fiber : fibers_) {
    fiber->Restart();
    idle_.push_back(fiber.get());
  }
  return false;
}

void Block::Abandon() {
  abandoned_ = true;
  Fiber::Switch(*current_->fiber, os_thread_);
  __builtin_unreachable();
}

// The life of a fiber: one thread after another.
void Block::RunThreads() {
  Block& block = Get();
  for (;;) {
    Thread& thread = *block.current_;
    Fiber& fiber = *thread.fiber;
    WatchThread(&thread);
    block.launched_->run_thread(block.launched_->arguments);
    WatchThread(nullptr);
    block.End(thread);
    Thread* const next = block.Pick();
    if (next != nullptr && next->fiber == nullptr) {
      next->fiber = &fiber;
      continue;
    }
    block.idle_.push_back(&fiber);
    Fiber::Switch(fiber, next == nullptr ? block.os_thread_ : *next->fiber);
  }
}

Fiber& Block::FiberOf(Thread& thread) {
  if (thread.fiber == nullptr) {
    if (idle_.empty()) {
      fibers_.push_back(std::make_unique<Fiber>(&RunThreads));
      idle_.push_back(fibers_.back().get());
    }
    thread.fiber = idle_.back();
    idle_.pop_back();
  }
  return *thread.fiber;
}

void Block::End(Thread& thread) {
  thread.state = ThreadState::kEnded;
  SetReady(thread, false);
  alive_[thread.warp] &= ~(1u << thread.lane);
  --alive_count_;
  polls_ = 0;
  EndThreadOfTensorCopies(thread);
  EndThreadOfMultiplies(thread);
  EndThreadOfBarriers(thread);
  EndThreadOfWarp(thread);
}

void Block::SetReady(const Thread& thread, bool ready) {
  uint32_t& lanes = ready_[thread.warp];
  const uint32_t bit = 1u << thread.lane;
  lanes = ready ? lanes | bit : lanes & ~bit;
  const uint32_t warp_bit = 1u << thread.warp;
  ready_warps_ =
      lanes != 0 ? ready_warps_ | warp_bit : ready_warps_ & ~warp_bit;
}

uint32_t Block::PickRank() {
  uint32_t warp = last_rank_ / kWarpLanes;
  uint32_t lane = last_rank_ % kWarpLanes;
  switch (policy_) {
    case Policy::kAscending:
      if (lane == kWarpLanes - 1 || ready_[warp] >> lane >> 1 == 0) {
        warp = NextBit(ready_warps_, warp + 1);
        lane = NextBit(ready_[warp], 0);
      } else {
        lane = NextBit(ready_[warp], lane + 1);
      }
      break;
    case Policy::kDescending:
      if ((ready_[warp] & ((1u << lane) - 1)) == 0) {
        warp = PreviousBit(ready_warps_, (warp + kWarpLanes - 1) % kWarpLanes);
        lane = PreviousBit(ready_[warp], kWarpLanes - 1);
      } else {
        lane = PreviousBit(ready_[warp], lane - 1);
      }
      break;
    case Policy::kGreedyWarp:
      if (ready_[warp] == 0 || leaves_warp_) {
        warp = DrawnBit(ready_warps_, Draw());
      }
      leaves_warp_ = false;
      lane = NextBit(ready_[warp], (lane + 1) % kWarpLanes);
      break;
    case Policy::kRandom:
      warp = DrawnBit(ready_warps_, Draw());
      lane = DrawnBit(ready_[warp], Draw());
      break;
  }
  return warp * kWarpLanes + lane;
}

Thread* Block::Pick() {
  if (alive_count_ == 0) {
    EndBlockOfTensorCopies();
    return nullptr;
  }
  if (policy_ == Policy::kRandom && Draw() % 4 == 0) EndSomeCopy();
  while (ready_warps_ == 0) {
    if (!EndSomeCopy()) ReportDeadlock();
  }
  last_rank_ = PickRank();
  current_ = &threads_[last_rank_];
  return current_;
}

void Block::Wait(const char* what, Site site) {
  Thread& thread = *current_;
  thread.state = ThreadState::kWaits;
  thread.awaits = what;
  thread.site = site;
  SetReady(thread, false);
  polls_ = 0;
  Thread* const next = Pick();
  if (next == &thread) return;
  Fiber::Switch(*thread.fiber, FiberOf(*next));
}

void Block::MakeReady(Thread& thread) {
  thread.state = ThreadState::kReady;
  thread.awaits = nullptr;
  SetReady(thread, true);
}

void Block::Yield() {
  Thread& thread = *current_;
  leaves_warp_ = true;
  Thread* const next = Pick();
  if (next != &thread) Fiber::Switch(*thread.fiber, FiberOf(*next));
}

bool Block::Poll() {
  if (++polls_ > kPollsMax) return false;
  Yield();
  return true;
}

// Says for each line at which threads wait how many there are.
void Block::ReportDeadlock() {
  std::map<std::string, std::pair<uint32_t, const Thread*>> waits;
  for (uint32_t rank = 0; rank < thread_count_; ++rank) {
    const Thread& thread = threads_[rank];
    if (thread.state != ThreadState::kWaits) continue;
    std::string wait = thread.awaits;
    if (thread.missing_arrivals != nullptr) {
      wait += " (which lacks " + std::to_string(*thread.missing_arrivals) +
              " arrivals and " + std::to_string(*thread.missing_bytes) +
              " bytes)";
    }
    auto& entry = waits[wait + " at " + thread.site.Text()];
    if (entry.first++ == 0) entry.second = &thread;
  }
  std::string what = "nobody can go on:";
  const Thread* first = nullptr;
  for (const auto& [line, entry] : waits) {
    what += " " + std::to_string(entry.first) + " wait for " + line + ";";
    if (first == nullptr || entry.second->rank < first->rank) {
      first = entry.second;
    }
  }
  what += " " + std::to_string(thread_count_ - alive_count_) + " have ended";
  current_ = &threads_[first->rank];
  Fail("deadlock", what, first->site);
}

}  // namespace temper::simt
