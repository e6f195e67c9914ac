#include "kernels/base/thread_pool.h"

#include <immintrin.h>
#include <pthread.h>

#include <algorithm>

#include "kernels/base/float_mode.h"
#include "kernels/base/log.h"

namespace temper {
namespace {

// Operations follow one another within microseconds, so a thread looks for the
// next one this many times before it sleeps (about 20 us).
constexpr int kSpins = 500;

}  // namespace

ThreadPool::ThreadPool(int threads) {
  CHECK_GE(threads, 1);
  CHECK(FlushDenormalsSet()) << "call SetFlushDenormals() in main first";
  for (int thread = 1; thread < threads; ++thread) {
    workers_.emplace_back([this, thread] { Work(thread); });
    pthread_setname_np(workers_.back().native_handle(), "temper-pool");
  }
}

ThreadPool::~ThreadPool() {
  {
    // Before the new round: who sees the round sees that it is the last.
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
    ++round_;
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::RunPiece(const Job& job, int thread) {
  const int64_t begin = std::min(job.count, thread * job.per_thread);
  const int64_t end = std::min(job.count, begin + job.per_thread);
  if (begin < end) (*job.piece)(thread, begin, end);
}

void ThreadPool::ParallelFor(int64_t count, int64_t grain, Piece piece) {
  CHECK(FlushDenormalsSet()) << "the calling thread's float mode was changed";
  CHECK_GE(grain, 1);
  if (count <= 0) return;
  if (count <= grain || workers_.empty()) {
    piece(0, 0, count);
    return;
  }
  const int64_t grains = (count + grain - 1) / grain;
  const int64_t per_thread = (grains + threads() - 1) / threads() * grain;
  // In this order: a worker reads job_ after it has seen the new round_, and
  // the count must stand before any worker can take one from it.
  job_ = {count, per_thread, &piece};
  running_ = static_cast<int>(workers_.size());
  ++round_;
  if (sleepers_ > 0) {
    // Taking the lock orders this after a sleeper's last look at round_.
    { std::lock_guard<std::mutex> lock(mutex_); }
    wake_.notify_all();
  }
  // The caller is thread 0, so a pool of one thread costs no hand-over at all.
  RunPiece(job_, 0);
  // The caller does not sleep: pieces are even, so the last is nearly done when
  // its own is, and it yields should the machine have other work.
  for (int spins = 0; running_ > 0; ++spins) {
    spins < kSpins ? _mm_pause() : std::this_thread::yield();
  }
}

void ThreadPool::Work(int thread) {
  CHECK(FlushDenormalsSet()) << "the float mode was not inherited";
  uint64_t seen = 0;
  while (true) {
    for (int spins = 0; round_ == seen && spins < kSpins; ++spins) _mm_pause();
    if (round_ == seen) {
      std::unique_lock<std::mutex> lock(mutex_);
      ++sleepers_;
      wake_.wait(lock, [this, seen] { return round_ != seen; });
      --sleepers_;
    }
    // Not seen + 1: rounds cannot be missed, for the caller waits for each.
    seen = round_;
    if (stopping_) return;
    RunPiece(job_, thread);
    --running_;
  }
}

}  // namespace temper
