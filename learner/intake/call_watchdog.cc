#include "learner/intake/call_watchdog.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "kernels/base/log.h"

namespace temper {

CallWatchdog::CallWatchdog(int64_t deadline_ms, Clock* clock)
    : deadline_ms_(deadline_ms), clock_(clock), thread_([this] { Watch(); }) {}

CallWatchdog::~CallWatchdog() {
  {
    MutexLock lock(&mutex_);
    CHECK(calls_.empty()) << calls_.size() << " calls outlive their watchdog";
    done_ = true;
  }
  changed_.NotifyAll();
  thread_.join();
}

int64_t CallWatchdog::PeriodMs() const {
  // An eighth late at most, and eight looks a deadline: it costs nothing beside
  // the calls it watches.
  return std::max<int64_t>(1, deadline_ms_ / 8);
}

void CallWatchdog::Watch() {
  pthread_setname_np(pthread_self(), "call_watchdog");
  // In order of their starts, so that the first that is young enough ends the
  // look; the deadline is the same for all.
  MutexLock lock(&mutex_);
  while (!done_) {
    const int64_t now = clock_->MonotonicMicros();
    for (Entry& call : calls_) {
      if (now - call.since_us < deadline_ms_ * 1000) break;
      if (call.expired) continue;
      // Once: a second cancel would reach whatever the context is used for
      // next.
      call.expired = true;
      call.cancel();
    }
    changed_.WaitFor(&mutex_, std::chrono::milliseconds(PeriodMs()));
  }
}

CallWatchdog::Call::Call(CallWatchdog* watchdog, std::function<void()> cancel)
    : watchdog_(watchdog) {
  MutexLock lock(&watchdog_->mutex_);
  entry_ = watchdog_->calls_.insert(
      watchdog_->calls_.end(),
      {watchdog_->clock_->MonotonicMicros(), std::move(cancel), false});
}

CallWatchdog::Call::~Call() {
  MutexLock lock(&watchdog_->mutex_);
  watchdog_->calls_.erase(entry_);
}

bool CallWatchdog::Call::expired() const {
  MutexLock lock(&watchdog_->mutex_);
  return entry_->expired;
}

}  // namespace temper
