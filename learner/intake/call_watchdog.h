// Bounds calls that have no deadline of their own, as reads and writes of a
// synchronous gRPC stream: a call registers while it blocks, and is cancelled
// from a thread of the watchdog's if it has not returned in time.
//
//   CallWatchdog::Call call(&watchdog, [context] { context->TryCancel(); });
//   const bool ok = stream->Read(&message);
//   if (call.expired()) ...  // it was cut off
//
// Thread-safe. No call may be under way when the watchdog is destroyed.

#ifndef LEARNER_INTAKE_CALL_WATCHDOG_H_
#define LEARNER_INTAKE_CALL_WATCHDOG_H_

#include <cstdint>
#include <functional>
#include <list>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "kernels/base/clock.h"
#include "kernels/base/mutex.h"

namespace temper {

class CallWatchdog {
 public:
  // A call is cancelled between deadline_ms and deadline_ms + PeriodMs after
  // its start. `clock` outlives the watchdog.
  CallWatchdog(int64_t deadline_ms, Clock* clock);
  ~CallWatchdog();
  CallWatchdog(const CallWatchdog&) = delete;
  CallWatchdog& operator=(const CallWatchdog&) = delete;

  int64_t deadline_ms() const { return deadline_ms_; }
  int64_t PeriodMs() const;

 private:
  struct Entry {
    int64_t since_us = 0;
    std::function<void()> cancel;
    bool expired = false;
  };

 public:
  // One blocking call, from construction to destruction.
  class Call {
   public:
    // `cancel` is called at most once, from the watchdog's thread and under its
    // lock: it must not block and must not use the watchdog.
    Call(CallWatchdog* watchdog, std::function<void()> cancel);
    ~Call();
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

    // Whether it was cancelled.
    bool expired() const;

   private:
    CallWatchdog* const watchdog_;
    std::list<Entry>::iterator entry_;
  };

 private:
  void Watch();

  const int64_t deadline_ms_;
  Clock* const clock_;
  mutable Mutex mutex_;
  CondVar changed_;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  std::list<Entry> calls_ ABSL_GUARDED_BY(mutex_);  // by start
  std::thread thread_;
};

}  // namespace temper

#endif  // LEARNER_INTAKE_CALL_WATCHDOG_H_
