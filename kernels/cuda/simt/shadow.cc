#include "kernels/cuda/simt/shadow.h"

#include <algorithm>
#include <bit>
#include <string>

#include "kernels/cuda/simt/block.h"
#include "kernels/cuda/simt/memory.h"
#include "kernels/cuda/simt/report.h"

namespace temper::simt {
namespace {

constexpr size_t kWordBytes = 4;

enum : uint16_t {
  kDone = 1,  // it is an access at all
  kAtomic = 2,
  kAsync = 4,
  kAtWork = 8,  // a write that has not ended
  kObject = 16,
};

std::string NameOfActor(ActorId actor) {
  if (actor == kTensorCopies) return "a tensor copy";
  if (actor < kThreads) {
    return "warpgroup " + std::to_string(actor - kTensorCores) + "'s wgmma";
  }
  return NameOf(Block::Get().thread(actor - kThreads));
}

// A warp, or a unit after them; and who of it.
uint16_t GroupOf(ActorId actor) {
  return actor < kThreads ? kBlockThreadsMax / kWarpLanes + actor
                          : (actor - kThreads) / kWarpLanes;
}

uint32_t LaneOf(ActorId actor) {
  return actor < kThreads ? 0 : (actor - kThreads) % kWarpLanes;
}

ActorId ActorIn(uint16_t group, uint32_t lane) {
  constexpr uint32_t kWarps = kBlockThreadsMax / kWarpLanes;
  return group < kWarps ? kThreads + group * kWarpLanes + lane : group - kWarps;
}

}  // namespace

Shadow* const Shadow::instance_ = new Shadow;

void Shadow::BeginBlock(size_t words) {
  if (words_.size() < words) words_.resize(words);
  // Words of earlier blocks tell themselves by their number.
  if (++block_ == 0) {
    std::fill(words_.begin(), words_.end(), Word());
    block_ = 1;
  }
  split_.assign(1, {});
  reads_.assign(1, {});
  fenced_.fill(0);
}

// What most accesses are, done at once: a thread reads a word that is ready for
// it, as others of its warp do.
bool Shadow::ReadAgain(size_t at, size_t bytes, const Access& access) {
  if (access.write || bytes != kWordBytes || at % kWordBytes != 0) return false;
  Word& word = words_[at / kWordBytes];
  Cell& cell = word.whole;
  if (word.block != block_ || word.bytes != 0 || cell.write.flags != kDone ||
      cell.read.group != GroupOf(access.actor) ||
      cell.read.time != Order::Get().Now(access.actor) || cell.read.atomic ||
      !Knows(access, cell.write)) {
    return false;
  }
  cell.read.lanes |= 1u << LaneOf(access.actor);
  cell.read.site = access.site;
  return true;
}

void Shadow::Touch(size_t at, size_t bytes, const Access& access) {
  if (ReadAgain(at, bytes, access)) return;
  Walk(at, bytes, access, Step::kTouch, kDone);
}

void Shadow::BeginWrite(size_t at, size_t bytes, const Access& access) {
  Walk(at, bytes, access, Step::kBeginWrite, kDone | kAtWork);
}

void Shadow::EndWrite(size_t at, size_t bytes, const Access& access) {
  Walk(at, bytes, access, Step::kEndWrite, kDone);
}

void Shadow::BeginRead(size_t at, size_t bytes, const Access& access) {
  Walk(at, bytes, access, Step::kBeginRead, kDone);
}

void Shadow::EndRead(size_t at, size_t bytes, const Access& access) {
  Walk(at, bytes, access, Step::kEndRead, kDone);
}

void Shadow::FenceProxy(ActorId thread) {
  Order& order = Order::Get();
  order.Advance(thread);
  fenced_[thread] = order.Now(thread);
}

void Shadow::Walk(size_t at, size_t bytes, const Access& access, Step step,
                  uint16_t flags) {
  for (size_t end = at + bytes; at < end;) {
    Word& word = words_[at / kWordBytes];
    if (word.block != block_) {
      word = Word();
      word.block = block_;
    }
    const size_t first = at % kWordBytes;
    const size_t count = std::min(kWordBytes - first, end - at);
    if (word.bytes == 0 && count == kWordBytes) {
      Apply(word.whole, at, access, step, flags);
    } else {
      if (word.bytes == 0) {
        word.bytes = static_cast<uint32_t>(split_.size());
        split_.emplace_back().fill(word.whole);
      }
      for (size_t i = 0; i < count; ++i) {
        Apply(split_[word.bytes][first + i], at + i, access, step, flags);
      }
      const bool written = step == Step::kBeginWrite ||
                           step == Step::kEndWrite ||
                           (step == Step::kTouch && access.write);
      if (written && count == kWordBytes) {  // all alike again
        word.whole = split_[word.bytes][0];
        word.bytes = 0;
      }
    }
    at += count;
  }
}

void Shadow::Apply(Cell& cell, size_t at, const Access& access, Step step,
                   uint16_t flags) {
  if (access.atomic) flags |= kAtomic;
  if (access.object) flags |= kObject;
  if (access.proxy == Proxy::kAsync) flags |= kAsync;
  const Event event = {Order::Get().Now(access.actor), access.site,
                       access.actor, flags};
  switch (step) {
    case Step::kTouch:
      if (!access.write) {
        CheckRead(cell, at, access);
        NoteRead(cell, access);
        return;
      }
      if (access.atomic) CheckRead(cell, at, access);
      [[fallthrough]];
    case Step::kBeginWrite:
      CheckWrite(cell, at, access);
      [[fallthrough]];
    case Step::kEndWrite:
      cell.write = event;
      cell.read = Readers();
      cell.more_reads = 0;
      return;
    case Step::kBeginRead:
      CheckRead(cell, at, access);
      ++cell.readers_at_work;
      return;
    case Step::kEndRead:
      --cell.readers_at_work;
      NoteRead(cell, access);
      return;
  }
}

bool Shadow::Knows(const Access& access, const Event& event) const {
  if (event.flags == 0 || event.actor == access.actor) return true;
  if (access.atomic && (event.flags & kAtomic) != 0) return true;
  return Order::Get().Knows(access.asker, event.actor, event.time);
}

bool Shadow::FindUnordered(const Access& access, const Readers& readers,
                           Event* unordered) const {
  if (access.atomic && readers.atomic) return false;
  for (uint32_t lanes = readers.lanes; lanes != 0; lanes &= lanes - 1) {
    const ActorId reader = ActorIn(readers.group, std::countr_zero(lanes));
    if (reader == access.actor ||
        Order::Get().Knows(access.asker, reader, readers.time)) {
      continue;
    }
    *unordered = {readers.time, readers.site, reader, kDone};
    return true;
  }
  return false;
}

void Shadow::CheckRead(const Cell& cell, size_t at,
                       const Access& access) const {
  const Event& write = cell.write;
  if (write.flags == 0) {
    Report("uninitialised", access, at, "which nobody has written", write);
  }
  if ((write.flags & kAtWork) != 0) {
    Report("read before its wait", access, at, "which is still written by",
           write);
  }
  if ((write.flags & kObject) != 0 && !access.object) {
    Report("object", access, at, "which is an mbarrier of", write);
  }
  if (!Knows(access, write)) {
    const bool copied = write.actor == kTensorCopies;
    Report(copied ? "read before its wait" : "race", access, at,
           "which was written, with nothing between, by", write);
  }
  CheckFence(cell, at, access);
}

void Shadow::CheckWrite(const Cell& cell, size_t at,
                        const Access& access) const {
  const Event& write = cell.write;
  if ((write.flags & kAtWork) != 0) {
    Report("read before its wait", access, at, "which is still written by",
           write);
  }
  if ((write.flags & kObject) != 0 && !access.object) {
    Report("object", access, at, "which is an mbarrier of", write);
  }
  if (cell.readers_at_work > 0) {
    Report("overwritten too early", access, at, "which is still read", Event());
  }
  if (!Knows(access, write)) {
    Report("race", access, at, "which was written, with nothing between, by",
           write);
  }
  Event read;
  bool unordered = FindUnordered(access, cell.read, &read);
  for (uint32_t i = cell.more_reads; i != 0 && !unordered; i = reads_[i].more) {
    unordered = FindUnordered(access, reads_[i].read, &read);
  }
  if (unordered) {
    Report(read.actor < kThreads ? "overwritten too early" : "race", access, at,
           "which was read, with nothing between, by", read);
  }
  CheckFence(cell, at, access);
}

void Shadow::CheckFence(const Cell& cell, size_t at,
                        const Access& access) const {
  const Event& write = cell.write;
  if (access.proxy != Proxy::kAsync || write.flags == 0 ||
      (write.flags & kAsync) != 0) {
    return;
  }
  if (write.time >= fenced_[write.actor]) {
    Report("missing proxy fence", access, at,
           "which was written, without a proxy fence since, by", write);
  }
}

void Shadow::NoteRead(Cell& cell, const Access& access) {
  Readers& last = cell.read;
  const Readers now = {Order::Get().Now(access.actor), access.site,
                       1u << LaneOf(access.actor), GroupOf(access.actor),
                       access.atomic};
  if (last.group == now.group && last.time == now.time &&
      last.atomic == now.atomic) {
    last.lanes |= now.lanes;
    last.site = now.site;
    return;
  }
  // Reads that are ordered before this one need not be kept, if all are.
  Event unordered;
  bool keep = FindUnordered(access, last, &unordered);
  for (uint32_t i = cell.more_reads; i != 0 && !keep; i = reads_[i].more) {
    keep = FindUnordered(access, reads_[i].read, &unordered);
  }
  if (keep) {
    reads_.push_back({last, cell.more_reads});
    cell.more_reads = static_cast<uint32_t>(reads_.size() - 1);
  } else {
    cell.more_reads = 0;
  }
  last = now;
}

void Shadow::Report(const char* name, const Access& access, size_t at,
                    const char* verb, const Event& other) const {
  std::string what = NameOfActor(access.actor);
  what += access.write ? " writes" : " reads";
  const size_t dynamic = SharedOffset(DynamicRegion().low);
  what += at < dynamic ? " static shared memory, "
                       : " byte " + std::to_string(at - dynamic) +
                             " of dynamic shared memory, ";
  what += verb;
  if (other.flags != 0) {
    what += " " + NameOfActor(other.actor) + " at " + other.site.Text();
  }
  Fail(name, what, access.site);
}

}  // namespace temper::simt
