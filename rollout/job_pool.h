// A few threads for what may block (an environment's Reset, Step, Grade), so
// that the engine's thread never waits for a tool. Finished jobs are announced
// by their tag; the poster takes the announcements when it likes.
//
// Thread-safe. The destructor drops jobs that have not begun and joins those
// that have: a job must bound its own time.

#ifndef ROLLOUT_JOB_POOL_H_
#define ROLLOUT_JOB_POOL_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "kernels/base/mutex.h"

namespace temper {

class JobPool {
 public:
  // CHECKs that both are at least 1. `jobs_max` bounds posted jobs whose end
  // was not taken yet.
  JobPool(int threads, int jobs_max);
  ~JobPool();
  JobPool(const JobPool&) = delete;
  JobPool& operator=(const JobPool&) = delete;

  // Runs `job` on one of the threads. ResourceExhausted above jobs_max.
  absl::Status Post(int64_t tag, std::function<void()> job);

  // Tags of the jobs that have ended, each once; waits up to `timeout_us` for
  // one, if there is none.
  std::vector<int64_t> TakeFinished(int64_t timeout_us);

  int pending() const;  // posted and not taken

 private:
  void Work();

  const int jobs_max_;
  mutable Mutex mutex_;
  CondVar posted_;
  CondVar finished_some_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  int pending_ ABSL_GUARDED_BY(mutex_) = 0;
  std::deque<std::pair<int64_t, std::function<void()>>> jobs_
      ABSL_GUARDED_BY(mutex_);
  std::vector<int64_t> finished_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_;
};

}  // namespace temper

#endif  // ROLLOUT_JOB_POOL_H_
