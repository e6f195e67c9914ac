#include "rollout/scheduler.h"

#include <algorithm>
#include <utility>

#include "kernels/base/log.h"
#include "kernels/model/kv_cache.h"

namespace temper {

Scheduler::Scheduler(int64_t tokens_max, BlockManager* blocks,
                     BeforePreempt before_preempt)
    : tokens_max_(tokens_max),
      blocks_(blocks),
      before_preempt_(std::move(before_preempt)) {
  CHECK(tokens_max >= kPageTokens) << "tokens_max " << tokens_max;
}

void Scheduler::Add(Sequence* sequence) {
  const bool is_new =
      entries_.emplace(sequence->id, Entry{sequence, false}).second;
  CHECK(is_new) << "sequence " << sequence->id << " is known";
}

void Scheduler::Remove(Sequence* sequence) {
  blocks_->Release(sequence);
  CHECK_EQ(entries_.erase(sequence->id), 1u);
}

void Scheduler::Preempt(Sequence* sequence) {
  if (before_preempt_) before_preempt_(sequence);
  blocks_->Release(sequence);
  ++stats_.preemptions;
}

void Scheduler::PreemptAll() {
  for (auto& [id, entry] : entries_) {
    if (!entry.sequence->pages.empty()) Preempt(entry.sequence);
  }
}

Sequence* Scheduler::FindVictim(const Sequence& wanting) {
  // Only younger ones give way, so that the oldest always gets on and ends: two
  // that took each other's pages in turn would never. For the oldest anyone
  // does, idle ones too.
  bool is_oldest = true;  // of the running
  for (auto it = entries_.begin(); it->first < wanting.id; ++it) {
    if (it->second.sequence->running) is_oldest = false;
  }
  for (auto it = entries_.rbegin(); it != entries_.rend(); ++it) {
    Sequence* const candidate = it->second.sequence;
    // What is in this step's batch already has its slots written into it.
    if (candidate == &wanting || it->second.scheduled) continue;
    if (candidate->pages.empty()) continue;
    if (candidate->id > wanting.id || is_oldest) return candidate;
  }
  return nullptr;
}

bool Scheduler::MakeRoom(Sequence* sequence, int64_t tokens) {
  const int64_t pages = (tokens + kPageTokens - 1) / kPageTokens;
  while (pages - static_cast<int64_t>(sequence->pages.size()) >
         blocks_->free_pages()) {
    Sequence* const victim = FindVictim(*sequence);
    if (victim == nullptr) return false;
    Preempt(victim);
  }
  return true;
}

void Scheduler::RunPass(Pass pass, uint64_t version, int64_t* budget) {
  for (auto& [id, entry] : entries_) {
    if (*budget == 0) return;
    Sequence* const sequence = entry.sequence;
    if (!sequence->running || entry.scheduled) continue;
    const int64_t size = sequence->record.size();
    // Decoding first: a long prompt must not hold up those that are one token
    // from their next.
    const bool decodes = size - sequence->computed == 1;
    if (decodes != (pass == Pass::kDecode)) continue;
    const bool starts = sequence->pages.empty();
    // Also those that began before: another may have computed the next page in
    // the meantime.
    const int64_t hits = decodes ? 0 : blocks_->MatchPrefix(sequence, version);
    if (!MakeRoom(sequence, size)) {
      // What it found by prefix must not be held while it waits: the one that
      // it waits for may need it.
      if (starts) blocks_->Release(sequence);
      continue;
    }
    stats_.prefix_hit_tokens += hits;
    const int64_t begin = sequence->computed;
    int64_t end = std::min(size, begin + *budget);
    // A chunk that does not reach the end stops at a page: only whole ones are
    // shared.
    if (end < size) end -= end % kPageTokens;
    if (end <= begin) continue;
    CHECK(blocks_->Grow(sequence, end));
    sequence->computed = end;
    blocks_->Register(sequence, version);
    entry.scheduled = true;
    *budget -= end - begin;
    (decodes ? stats_.decode_tokens : stats_.prefill_tokens) += end - begin;
    chunks_.push_back({sequence, begin, end - begin, end == size});
  }
}

const std::vector<Chunk>& Scheduler::Schedule(uint64_t version) {
  for (auto& [id, entry] : entries_) entry.scheduled = false;
  int64_t budget = tokens_max_;
  chunks_.clear();
  RunPass(Pass::kDecode, version, &budget);
  RunPass(Pass::kPrefill, version, &budget);
  return chunks_;
}

void Scheduler::CheckIntegrity() const {
  std::vector<const Sequence*> sequences;
  for (const auto& [id, entry] : entries_) sequences.push_back(entry.sequence);
  blocks_->CheckIntegrity(sequences);
}

}  // namespace temper
