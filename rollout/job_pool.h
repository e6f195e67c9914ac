// A few threads for what may block (an environment's Reset, Step, Grade), so
// that the engine's thread never waits for a tool. Finished jobs are announced
// by their tag; the poster takes the announcements when it likes.
//
// A job goes into a lane, by default the one called "". Each lane has threads
// of its own, so that jobs which block for as long as they may hold up none of
// another lane.
//
// Thread-safe. The destructor drops jobs that have not begun, on the same
// threads, and joins those that have: a job must bound its own time.

#ifndef ROLLOUT_JOB_POOL_H_
#define ROLLOUT_JOB_POOL_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "kernels/base/mutex.h"

namespace temper {

class JobPool {
 public:
  // CHECKs that both are at least 1. `threads` are of each lane, from its first
  // job on; `jobs_max` bounds posted jobs of all lanes whose end was not taken
  // yet.
  JobPool(int threads, int jobs_max);
  ~JobPool();
  JobPool(const JobPool&) = delete;
  JobPool& operator=(const JobPool&) = delete;

  // Runs `job` on one of the lane's threads. ResourceExhausted above jobs_max.
  absl::Status Post(int64_t tag, std::function<void()> job,
                    const std::string& lane = "");

  // The same for a job that does not block, and goes on without the thread: it
  // has ended when `finish` is called, once, on whatever thread, perhaps before
  // it returns. The destructor waits for those that have begun. Many that come
  // at a time are begun by one thread.
  using Finish = std::function<void()>;
  absl::Status PostOpen(int64_t tag, std::function<void(Finish finish)> job,
                        const std::string& lane = "");

  // Lets go of `object` on one of them, where its destructor may block.
  // Not announced, and not counted by pending(). Above jobs_max of them it goes
  // on the caller's thread.
  void Release(std::shared_ptr<const void> object,
               const std::string& lane = "");

  // Tags of the jobs that have ended, each once; waits up to `timeout_us` for
  // one, if there is none.
  std::vector<int64_t> TakeFinished(int64_t timeout_us);

  int pending() const;  // posted and not taken

 private:
  struct Job {
    enum class Kind { kUsual, kOpen, kRelease };
    Kind kind = Kind::kUsual;
    int64_t tag = 0;  // not of kRelease, which is not announced
    std::function<void()> run;
  };

  // All of it is guarded by mutex_.
  struct Lane {
    CondVar posted;
    std::deque<Job> jobs;
    std::vector<std::thread> threads;
    // Threads that will look at `jobs` again though nobody wakes them, and of
    // them those that were woken and do not know it yet.
    int looking = 0;
    int woken = 0;
  };

  absl::Status Add(Job job, const std::string& lane);
  void Put(Job job, const std::string& lane)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Sees to it that a thread looks at what is in the lane. One at a time: it
  // wakes the next before it is busy.
  static void Wake(Lane* lane);
  // Waits for a job of the lane; false if there will be none.
  bool Take(Lane* lane, Job* job) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Announce(int64_t tag) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The lane of that name, with its threads.
  Lane* LaneOf(const std::string& name) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Work(Lane* lane);

  const int threads_;
  const int jobs_max_;
  mutable Mutex mutex_;
  CondVar finished_some_;
  CondVar none_open_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  int pending_ ABSL_GUARDED_BY(mutex_) = 0;
  int releases_ ABSL_GUARDED_BY(mutex_) = 0;  // in a lane, or at it
  int open_ ABSL_GUARDED_BY(mutex_) = 0;      // begun, and not finished
  std::map<std::string, std::unique_ptr<Lane>> lanes_ ABSL_GUARDED_BY(mutex_);
  std::vector<int64_t> finished_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace temper

#endif  // ROLLOUT_JOB_POOL_H_
