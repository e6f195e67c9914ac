// The block that runs, and who of its threads runs next. A thread runs until it
// waits or ends; then the schedule picks another. A thread that begins takes
// the stack of one that has ended, so that a block whose threads never wait
// runs on a single stack, by plain calls.
//
// Not thread-safe: one OS thread launches, and all of a launch runs on it.

#ifndef KERNELS_CUDA_SIMT_BLOCK_H_
#define KERNELS_CUDA_SIMT_BLOCK_H_

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/cuda/simt/fiber.h"
#include "kernels/cuda/simt/thread.h"

namespace temper::simt {

// In which order threads run. The seed of a schedule picks one of them, and
// draws where something is drawn.
enum class Policy {
  kAscending,   // from thread 0 up, each as far as it comes
  kDescending,  // from the last thread down
  kGreedyWarp,  // one warp as far as it comes, then another
  kRandom,      // any thread; asynchronous operations end at any time
};
inline constexpr uint64_t kPolicies = 4;

class Block {
 public:
  // The one that runs, or is to run.
  static Block& Get() { return *instance_; }

  // The schedule of what is launched from here on.
  void SetSeed(uint64_t seed);
  Policy policy() const { return policy_; }
  // The schedule's next number.
  uint64_t Draw();

  // Runs every thread of the block to its end. False if it was abandoned.
  bool Run(const Launched& launched);
  // Leaves the block where it stands, from within one of its threads.
  [[noreturn]] void Abandon();

  // Null between blocks.
  Thread* current() { return current_; }
  const Launched& launched() const { return *launched_; }
  uint32_t thread_count() const { return thread_count_; }
  uint32_t warp_count() const {
    return (thread_count_ + kWarpLanes - 1) / kWarpLanes;
  }
  Thread& thread(uint32_t rank) { return threads_[rank]; }
  // The lanes of `warp` that have not ended.
  uint32_t alive_lanes(uint32_t warp) const { return alive_[warp]; }
  uint32_t alive_count() const { return alive_count_; }

  // The current thread waits, in words `what`, until it is made ready.
  void Wait(const char* what, Site site);
  void MakeReady(Thread& thread);
  // Lets others run; the current thread stays ready.
  void Yield();
  // The same of a thread that polls. False if threads have done so very often
  // while nothing happened that they may poll for.
  bool Poll();
  void NoteProgress() { polls_ = 0; }

 private:
  static Block* const instance_;  // never destroyed

  static void RunThreads();
  void Begin(const Launched& launched);
  // The next to run, made current; null when all have ended.
  Thread* Pick();
  uint32_t PickRank();
  [[noreturn]] void ReportDeadlock();
  // The fiber of `thread`, which gets an idle one if it has none.
  Fiber& FiberOf(Thread& thread);
  void End(Thread& thread);
  void SetReady(const Thread& thread, bool ready);

  const Launched* launched_ = nullptr;
  Policy policy_ = Policy::kAscending;
  uint64_t random_ = 0;
  std::array<Thread, kBlockThreadsMax> threads_;
  uint32_t thread_count_ = 0;
  // A bit a lane, and a bit a warp that has a ready lane.
  std::array<uint32_t, kBlockThreadsMax / kWarpLanes> ready_ = {};
  uint32_t ready_warps_ = 0;
  std::array<uint32_t, kBlockThreadsMax / kWarpLanes> alive_ = {};
  uint32_t alive_count_ = 0;
  Thread* current_ = nullptr;
  uint32_t last_rank_ = 0;  // of whoever ran last
  uint32_t polls_ = 0;
  bool leaves_warp_ = false;  // who ran last gave way
  bool abandoned_ = false;
  Fiber os_thread_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Fiber*> idle_;
};

}  // namespace temper::simt

#endif  // KERNELS_CUDA_SIMT_BLOCK_H_
