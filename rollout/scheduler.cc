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
  const auto [entry, is_new] = entries_.emplace(sequence->id, Entry{sequence});
  CHECK(is_new) << "sequence " << sequence->id << " is known";
  awake_[sequence->id] = &entry->second;
}

void Scheduler::Wake(Sequence* sequence) {
  awake_[sequence->id] = &entries_.at(sequence->id);
}

void Scheduler::Remove(Sequence* sequence) {
  blocks_->Release(sequence);
  awake_.erase(sequence->id);
  holding_.erase(sequence->id);
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
  // does, idle ones too. An idle one wants none, so that it may yield to
  // anyone; but most will be back in a moment.
  const bool is_oldest = awake_.begin()->first == wanting.id;
  for (auto it = holding_.end(); it != holding_.begin();) {
    const Entry& entry = *(--it)->second;
    Sequence* const candidate = entry.sequence;
    if (candidate->pages.empty()) {
      it = holding_.erase(it);
      continue;
    }
    // What is in this step's batch already has its slots written into it.
    if (candidate == &wanting || entry.scheduled) continue;
    const bool idle_long =
        !candidate->running && schedules_ - entry.idle_since >= kIdleSchedules;
    if (candidate->id > wanting.id || is_oldest || idle_long) return candidate;
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
  for (auto& [id, awake] : awake_) {
    if (*budget == 0) return;
    Entry& entry = *awake;
    Sequence* const sequence = entry.sequence;
    if (entry.scheduled) continue;
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
    // Now: one that looked for room without a page was taken off the list.
    if (starts || !decodes) holding_[id] = &entry;
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
  ++schedules_;
  for (auto it = awake_.begin(); it != awake_.end();) {
    Entry& entry = *it->second;
    entry.scheduled = false;
    if (entry.sequence->running) {
      ++it;
      continue;
    }
    entry.idle_since = schedules_;
    it = awake_.erase(it);
  }
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
