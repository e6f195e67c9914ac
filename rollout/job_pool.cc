#include "rollout/job_pool.h"

#include <pthread.h>

#include <chrono>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/clock.h"
#include "kernels/base/log.h"

namespace temper {

JobPool::JobPool(int threads, int jobs_max)
    : threads_(threads), jobs_max_(jobs_max) {
  CHECK(threads >= 1 && jobs_max >= 1)
      << threads << " threads, " << jobs_max << " jobs";
}

JobPool::~JobPool() {
  std::vector<std::thread> threads;
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    for (const auto& [name, lane] : lanes_) {
      lane->posted.NotifyAll();
      for (std::thread& thread : lane->threads) {
        threads.push_back(std::move(thread));
      }
    }
  }
  for (std::thread& thread : threads) thread.join();
  // They still come to us, and may let go of something here.
  MutexLock lock(&mutex_);
  while (open_ > 0) none_open_.Wait(&mutex_);
}

JobPool::Lane* JobPool::LaneOf(const std::string& name) {
  std::unique_ptr<Lane>& lane = lanes_[name];
  if (lane == nullptr) lane = std::make_unique<Lane>();
  // What comes when they are joined stays for the destructor.
  while (!stopping_ && static_cast<int>(lane->threads.size()) < threads_) {
    ++lane->looking;
    lane->threads.emplace_back([this, lane = lane.get()] {
      pthread_setname_np(pthread_self(), "temper-job");
      Work(lane);
    });
  }
  return lane.get();
}

absl::Status JobPool::Post(int64_t tag, std::function<void()> job,
                           const std::string& lane) {
  return Add({Job::Kind::kUsual, tag, std::move(job)}, lane);
}

absl::Status JobPool::PostOpen(int64_t tag,
                               std::function<void(Finish finish)> job,
                               const std::string& lane) {
  return Add({Job::Kind::kOpen, tag,
              [this, tag, job = std::move(job)] {
                job([this, tag] {
                  MutexLock lock(&mutex_);
                  Announce(tag);
                  if (--open_ == 0) none_open_.NotifyAll();
                });
              }},
             lane);
}

absl::Status JobPool::Add(Job job, const std::string& lane) {
  MutexLock lock(&mutex_);
  // Until it is taken, not until it has run: else finished jobs could pile up
  // without limit.
  if (pending_ >= jobs_max_) {
    return absl::ResourceExhaustedError(
        absl::StrCat(jobs_max_, " jobs are pending; take finished ones first"));
  }
  ++pending_;
  Put(std::move(job), lane);
  return absl::OkStatus();
}

void JobPool::Put(Job job, const std::string& lane) {
  Lane* const of = LaneOf(lane);
  of->jobs.push_back(std::move(job));
  Wake(of);
}

void JobPool::Wake(Lane* lane) {
  if (lane->looking > 0) return;
  ++lane->looking;
  ++lane->woken;
  lane->posted.NotifyOne();
}

void JobPool::Release(std::shared_ptr<const void> object,
                      const std::string& lane) {
  MutexLock lock(&mutex_);
  // Bounded as well. What does not fit is released by the caller, which then
  // waits for it.
  if (releases_ >= jobs_max_) return;  // the parameter outlives the lock
  ++releases_;
  Put({Job::Kind::kRelease, 0, [object = std::move(object)] {}}, lane);
}

std::vector<int64_t> JobPool::TakeFinished(int64_t timeout_us) {
  const int64_t until = SystemClock()->MonotonicMicros() + timeout_us;
  MutexLock lock(&mutex_);
  while (finished_.empty()) {
    const int64_t left = until - SystemClock()->MonotonicMicros();
    if (left <= 0) break;
    finished_some_.WaitFor(&mutex_, std::chrono::microseconds(left));
  }
  std::vector<int64_t> finished = std::move(finished_);
  finished_.clear();
  // The places are free again only now, as Post counts them.
  pending_ -= static_cast<int>(finished.size());
  return finished;
}

int JobPool::pending() const {
  MutexLock lock(&mutex_);
  return pending_;
}

bool JobPool::Take(Lane* lane, Job* job) {
  while (lane->jobs.empty()) {
    if (stopping_) return false;
    --lane->looking;
    while (lane->woken == 0 && !stopping_) lane->posted.Wait(&mutex_);
    // Woken, it is counted already.
    if (lane->woken > 0) {
      --lane->woken;
    } else {
      ++lane->looking;
    }
  }
  *job = std::move(lane->jobs.front());
  lane->jobs.pop_front();
  return true;
}

void JobPool::Work(Lane* lane) {
  while (true) {
    Job job;
    bool dropped = false;
    {
      MutexLock lock(&mutex_);
      if (!Take(lane, &job)) return;
      // Taken off all the same, so that what it holds is let go of here and not
      // by the destructor, under no lock.
      dropped = stopping_;
      if (job.kind == Job::Kind::kOpen) {
        if (!dropped) ++open_;
      } else {
        --lane->looking;
        if (!lane->jobs.empty()) Wake(lane);
      }
    }
    if (!dropped) job.run();
    job.run = nullptr;  // what it holds goes before it is announced
    MutexLock lock(&mutex_);
    if (job.kind == Job::Kind::kRelease) --releases_;
    if (job.kind == Job::Kind::kUsual) Announce(job.tag);
    if (job.kind != Job::Kind::kOpen) ++lane->looking;
  }
}

void JobPool::Announce(int64_t tag) {
  finished_.push_back(tag);
  finished_some_.NotifyAll();
}

}  // namespace temper
