#include "kernels/cuda/simt/mbarrier.h"

#include <map>
#include <string>
#include <vector>

#include "kernels/cuda/simt/access.h"
#include "kernels/cuda/simt/block.h"
#include "kernels/cuda/simt/order.h"
#include "kernels/cuda/simt/report.h"
#include "kernels/cuda/simt/shadow.h"

namespace temper::simt {
namespace {

constexpr int64_t kCountMax = (1 << 20) - 1;  // of arrivals and of bytes
constexpr size_t kBytes = 8;

struct Mbarrier {
  int64_t arrivals = 0;          // that a phase takes
  int64_t missing_arrivals = 0;  // of the phase that runs
  int64_t missing_bytes = 0;
  uint32_t phase = 0;
  ActorId maker = 0;
  bool fenced = false;
  Handover running;  // what those know who have arrived
  Handover ended;    // the same at the end of the last phase
  std::vector<Thread*> waiting;
};

// By the place in shared memory.
std::map<size_t, Mbarrier> mbarriers;

ActorId Me() { return ActorOf(*Block::Get().current()); }

// The current thread's access to it. An operation of an mbarrier is atomic.
void Touch(size_t at, bool write, bool atomic, Site site) {
  Access access;
  access.write = write;
  access.atomic = atomic;
  access.object = true;
  access.actor = access.asker = Me();
  access.site = site;
  Shadow::Get().Touch(at, kBytes, access);
}

Mbarrier& Find(const uint64_t* address, Site site) {
  const size_t at = CheckShared(address, kBytes, kBytes, site);
  const auto found = mbarriers.find(at);
  if (found == mbarriers.end()) {
    Fail("mbarrier misuse",
         "none was made at byte " + std::to_string(at) + " of shared memory",
         site);
  }
  Touch(at, /*write=*/false, /*atomic=*/true, site);
  return found->second;
}

void EndPhaseIfDone(Mbarrier& mbarrier) {
  if (mbarrier.missing_arrivals != 0 || mbarrier.missing_bytes != 0) return;
  ++mbarrier.phase;
  mbarrier.missing_arrivals = mbarrier.arrivals;
  mbarrier.ended = mbarrier.running;
  Block& block = Block::Get();
  block.NoteProgress();
  for (Thread* thread : mbarrier.waiting) {
    Order::Get().Acquire(ActorOf(*thread), mbarrier.ended);
    thread->missing_arrivals = thread->missing_bytes = nullptr;
    block.MakeReady(*thread);
  }
  mbarrier.waiting.clear();
}

void Expect(Mbarrier& mbarrier, uint32_t bytes, Site site) {
  mbarrier.missing_bytes += bytes;
  if (mbarrier.missing_bytes > kCountMax) {
    Fail("mbarrier misuse",
         "a phase of " + std::to_string(mbarrier.missing_bytes) +
             " bytes; at most " + std::to_string(kCountMax),
         site);
  }
}

void Arrive(Mbarrier& mbarrier, Site site) {
  if (mbarrier.missing_arrivals == 0) {
    Fail("mbarrier misuse",
         "more arrivals in a phase than the " +
             std::to_string(mbarrier.arrivals) + " it takes",
         site);
  }
  --mbarrier.missing_arrivals;
  Order::Get().Release(Me(), mbarrier.running);
  EndPhaseIfDone(mbarrier);
}

void Fence(ActorId thread) {
  for (auto& [at, mbarrier] : mbarriers) {
    if (mbarrier.maker == thread) mbarrier.fenced = true;
  }
}

}  // namespace

void InitMbarrier(uint64_t* address, uint32_t arrivals, Where where) {
  const InEmulator in_emulator;
  const Site site = Site::OfCall(where);
  const size_t at = CheckShared(address, kBytes, kBytes, site);
  if (arrivals == 0 || arrivals > kCountMax) {
    Fail("mbarrier misuse",
         "made for " + std::to_string(arrivals) + " arrivals a phase", site);
  }
  Touch(at, /*write=*/true, /*atomic=*/false, site);
  Mbarrier& mbarrier = mbarriers[at];
  if (!mbarrier.waiting.empty()) {
    Fail("mbarrier misuse", "made anew while threads wait at it", site);
  }
  mbarrier = Mbarrier();
  mbarrier.arrivals = mbarrier.missing_arrivals = arrivals;
  mbarrier.maker = Me();
}

void ExpectBytes(uint64_t* address, uint32_t bytes, Where where) {
  const InEmulator in_emulator;
  const Site site = Site::OfCall(where);
  Mbarrier& mbarrier = Find(address, site);
  Expect(mbarrier, bytes, site);
}

void ArriveMbarrier(uint64_t* address, Where where) {
  const InEmulator in_emulator;
  const Site site = Site::OfCall(where);
  Arrive(Find(address, site), site);
}

void ArriveExpectingBytes(uint64_t* address, uint32_t bytes, Where where) {
  const InEmulator in_emulator;
  const Site site = Site::OfCall(where);
  Mbarrier& mbarrier = Find(address, site);
  Expect(mbarrier, bytes, site);
  Arrive(mbarrier, site);
}

void WaitMbarrier(uint64_t* address, uint32_t parity, Where where) {
  const InEmulator in_emulator;
  const Site site = Site::OfCall(where);
  Mbarrier& mbarrier = Find(address, site);
  if ((mbarrier.phase & 1) != (parity & 1)) {
    Order::Get().Acquire(Me(), mbarrier.ended);
    return;
  }
  Block& block = Block::Get();
  Thread* const thread = block.current();
  thread->missing_arrivals = &mbarrier.missing_arrivals;
  thread->missing_bytes = &mbarrier.missing_bytes;
  mbarrier.waiting.push_back(thread);
  block.Wait("an mbarrier", site);
}

bool TestMbarrier(uint64_t* address, uint32_t parity, Where where) {
  const InEmulator in_emulator;
  const Site site = Site::OfCall(where);
  Mbarrier& mbarrier = Find(address, site);
  if ((mbarrier.phase & 1) != (parity & 1)) {
    Order::Get().Acquire(Me(), mbarrier.ended);
    return true;
  }
  if (!Block::Get().Poll()) {
    Fail("starvation", "it polls an mbarrier at which nobody arrives any more",
         site);
  }
  return false;
}

void FenceProxyAsync() {
  const InEmulator in_emulator;
  Shadow::Get().FenceProxy(Me());
  Fence(Me());
}

void FenceMbarrierInit() {
  const InEmulator in_emulator;
  Fence(Me());
}

void CheckArrivalOfCopy(uint64_t* address, Site site) {
  if (Find(address, site).fenced) return;
  Fail("missing proxy fence",
       "a copy is to arrive at an mbarrier whose making was not fenced", site);
}

void ArriveCopiedBytes(uint64_t* address, uint32_t bytes, Site site) {
  Mbarrier& mbarrier = mbarriers.at(CheckShared(address, kBytes, kBytes, site));
  mbarrier.missing_bytes -= bytes;
  Order::Get().Release(kTensorCopies, mbarrier.running);
  EndPhaseIfDone(mbarrier);
}

void BeginMbarriers() { mbarriers.clear(); }

}  // namespace temper::simt
