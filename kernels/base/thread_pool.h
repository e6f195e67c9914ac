// A pool that splits a range of outputs over a fixed number of threads.
//
// The split depends on the arguments alone: thread t always gets the t-th
// piece. Pieces write disjoint outputs, so results do not depend on the number
// of threads. The caller is thread 0; the others are owned, named
// "temper-pool" and joined by the destructor. Not reentrant: one thread drives
// a pool, and a piece must not call ParallelFor.
//
// The calling thread must have the float mode of float_mode.h; this is CHECKed
// at each call and where a worker begins.

#ifndef KERNELS_BASE_THREAD_POOL_H_
#define KERNELS_BASE_THREAD_POOL_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"

namespace temper {

class ThreadPool {
 public:
  // Called as piece(thread, begin, end) with begin < end.
  using Piece = absl::FunctionRef<void(int, int64_t, int64_t)>;

  // `threads` >= 1 counts the caller.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Runs `piece` over [0, count) cut into at most threads() pieces of whole
  // multiples of `grain` (the last may be short), and returns when all are
  // done. A count of at most `grain` runs in the caller alone.
  void ParallelFor(int64_t count, int64_t grain, Piece piece);

 private:
  struct Job {
    int64_t count = 0;
    int64_t per_thread = 0;
    const Piece* piece = nullptr;
  };

  void Work(int thread);
  static void RunPiece(const Job& job, int thread);

  std::vector<std::thread> workers_;
  Job job_;  // written by the caller while no worker runs
  std::atomic<uint64_t> round_{0};  // a new value starts the workers
  std::atomic<int> running_{0};     // workers still in this round
  std::atomic<bool> stopping_{false};
  std::atomic<int> sleepers_{0};
  std::mutex mutex_;  // guards nothing but the sleep on wake_
  std::condition_variable wake_;
};

}  // namespace temper

#endif  // KERNELS_BASE_THREAD_POOL_H_
