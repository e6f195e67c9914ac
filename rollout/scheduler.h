// Who runs next: which tokens of which sequences make up one forward.
//
// One Schedule() fills a budget of tokens: first one token for every sequence
// that decodes, then prefill chunks, older sequences first in both. A chunk
// that does not reach the sequence's end ends on a page boundary, so that what
// it computed can be shared whole. When pages run out, the youngest sequence
// that holds some and has no part in this forward gives all of its back
// (preemption); it prefills again later. Only younger ones yield, but to the
// oldest running sequence idle ones of any age do: so the oldest always gets
// on. Otherwise idle sequences keep their pages between turns, unless one lasts
// for kIdleSchedules: those that wait so long for a tool yield to all.
//
// Idle sequences cost no time, however many there are.
//
// Pure bookkeeping: no tensors, no clock. The same calls give the same
// schedule. Not thread-safe.

#ifndef ROLLOUT_SCHEDULER_H_
#define ROLLOUT_SCHEDULER_H_

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "rollout/block_manager.h"
#include "rollout/sequence.h"

namespace temper {

// Tokens [begin, begin + count) of a sequence. `samples`: they reach its end,
// so a next token is to be sampled.
struct Chunk {
  Sequence* sequence = nullptr;
  int64_t begin = 0;
  int64_t count = 0;
  bool samples = false;
};

struct SchedulerStats {
  int64_t prefill_tokens = 0;  // computed in chunks
  int64_t decode_tokens = 0;   // computed one at a time
  int64_t prefix_hit_tokens = 0;
  int64_t preemptions = 0;
};

class Scheduler {
 public:
  // Called with a sequence that is about to lose its pages to others.
  using BeforePreempt = std::function<void(Sequence* sequence)>;

  // `blocks` must outlive the object. CHECKs tokens_max >= kPageTokens, less
  // would stall a prefill.
  Scheduler(int64_t tokens_max, BlockManager* blocks,
            BeforePreempt before_preempt = nullptr);

  // The sequence is looked at in every Schedule for as long as it is running.
  // Its id is new.
  void Add(Sequence* sequence);

  // The sequence, which a Schedule may have found idle, is running again.
  void Wake(Sequence* sequence);

  // Gives back its pages and forgets it.
  void Remove(Sequence* sequence);

  // The next forward; empty if no sequence is running. The chunks' `computed`
  // and shared pages already count them as done: the caller must run them
  // before anything else. Keys lie by weights `version`. Valid until the next
  // call.
  const std::vector<Chunk>& Schedule(uint64_t version);

  // Takes every sequence's pages away: the weights changed.
  void PreemptAll();

  const SchedulerStats& stats() const { return stats_; }

  static constexpr int64_t kIdleSchedules = 64;

  // BlockManager::CheckIntegrity over all sequences.
  void CheckIntegrity() const;

 private:
  // One pass over the sequences, those that decode or those that prefill.
  enum class Pass { kDecode, kPrefill };
  void RunPass(Pass pass, uint64_t version, int64_t* budget);
  // Sees that pages for all of `tokens` are held or free, by preempting. A
  // prefill that would not fit whole is not begun.
  bool MakeRoom(Sequence* sequence, int64_t tokens);
  Sequence* FindVictim(const Sequence& wanting);
  void Preempt(Sequence* sequence);

  struct Entry {
    Sequence* sequence = nullptr;
    bool scheduled = false;  // has part in the forward being put together
    int64_t idle_since = 0;  // the Schedule that found it so
  };

  const int64_t tokens_max_;
  BlockManager* const blocks_;
  const BeforePreempt before_preempt_;
  // By id: oldest first.
  std::map<int64_t, Entry> entries_;
  std::map<int64_t, Entry*> awake_;    // those running, and some just stopped
  std::map<int64_t, Entry*> holding_;  // those with pages, and some without
  std::vector<Chunk> chunks_;          // of the last Schedule
  int64_t schedules_ = 0;
  SchedulerStats stats_;
};

}  // namespace temper

#endif  // ROLLOUT_SCHEDULER_H_
