#include "kernels/base/mutex.h"

#include <thread>

#include "gtest/gtest.h"

namespace temper {
namespace {

class Counter {
 public:
  void Add() {
    MutexLock lock(&mutex_);
    ++count_;
    changed_.NotifyAll();
  }
  void AwaitAtLeast(int count) {
    MutexLock lock(&mutex_);
    while (count_ < count) changed_.Wait(&mutex_);
  }
#ifdef MISUSE
  int Peek() { return count_; }
#endif

 private:
  Mutex mutex_;
  CondVar changed_;
  int count_ ABSL_GUARDED_BY(mutex_) = 0;
};

TEST(MutexTest, GuardsACounterAcrossThreads) {
  Counter counter;
  std::thread a([&] {
    for (int i = 0; i < 1000; ++i) counter.Add();
  });
  std::thread b([&] {
    for (int i = 0; i < 1000; ++i) counter.Add();
  });
  counter.AwaitAtLeast(2000);
  a.join();
  b.join();
}

}  // namespace
}  // namespace temper
