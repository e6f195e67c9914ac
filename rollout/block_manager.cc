#include "rollout/block_manager.h"

#include <algorithm>

#include "kernels/base/log.h"
#include "kernels/model/kv_cache.h"

namespace temper {

BlockManager::BlockManager(int32_t pages) {
  CHECK(pages > 0) << "a cache without pages";
  pages_.resize(pages);
  // Twice what can be in it: so it is cleaned in place, and a step never waits
  // for memory.
  by_hash_.reserve(2 * static_cast<size_t>(pages));
  for (int32_t page = 0; page < pages; ++page) AppendFree(page);
}

void BlockManager::Unlink(int32_t page) {
  Page& p = pages_[page];
  (p.previous >= 0 ? pages_[p.previous].next : free_first_) = p.next;
  (p.next >= 0 ? pages_[p.next].previous : free_last_) = p.previous;
  p.previous = p.next = -1;
  --free_count_;
}

void BlockManager::AppendFree(int32_t page) {
  Page& p = pages_[page];
  p.previous = free_last_;
  p.next = -1;
  (free_last_ >= 0 ? pages_[free_last_].next : free_first_) = page;
  free_last_ = page;
  ++free_count_;
}

void BlockManager::PrependFree(int32_t page) {
  Page& p = pages_[page];
  p.previous = -1;
  p.next = free_first_;
  (free_first_ >= 0 ? pages_[free_first_].previous : free_last_) = page;
  free_first_ = page;
  ++free_count_;
}

void BlockManager::Unname(int32_t page) {
  Page& p = pages_[page];
  if (!p.named) return;
  by_hash_.erase(p.hash);
  p.named = false;
}

// The list's front is what was let go of longest ago, behind the pages that
// have no name.
int32_t BlockManager::TakeFree() {
  const int32_t page = free_first_;
  CHECK(page >= 0) << "no free page";
  Unlink(page);
  Unname(page);
  pages_[page].references = 1;
  return page;
}

void BlockManager::Hold(int32_t page) {
  // A free page keeps its keys and its name until it is taken: found again, it
  // is as good as one in use.
  if (pages_[page].references == 0) Unlink(page);
  ++pages_[page].references;
}

void BlockManager::Drop(int32_t page) {
  Page& p = pages_[page];
  CHECK(p.references > 0) << "page " << page << " is held by nobody";
  if (--p.references > 0) return;
  // A page without a name is worth nothing: it goes first.
  p.named ? AppendFree(page) : PrependFree(page);
}

void BlockManager::ExtendHashes(Sequence* sequence, int64_t count,
                                uint64_t version) {
  // Other weights, other keys: a page of the old ones must not be found.
  if (sequence->hash_version != version) sequence->page_hashes.clear();
  sequence->hash_version = version;
  const SequenceRecord& record = sequence->record;
  while (static_cast<int64_t>(sequence->page_hashes.size()) < count) {
    const int64_t begin =
        static_cast<int64_t>(sequence->page_hashes.size()) * kPageTokens;
    uint64_t routes[kPageTokens];
    for (int64_t i = 0; i < kPageTokens; ++i) {
      // With the routes' versions: what is replayed under new weights has other
      // keys than what those weights would route themselves, although tokens
      // and version are equal.
      routes[i] =
          begin + i < record.fed() ? record.route_versions[begin + i] : version;
    }
    sha_.Restart();
    // Chained: a page's keys depend on all tokens before it.
    if (begin > 0) {
      const Sha256Digest& before = sequence->page_hashes.back();
      sha_.Update(before.data(), before.size());
    }
    sha_.Update(&version, sizeof(version));
    sha_.Update(&record.tokens[begin], kPageTokens * sizeof(int32_t));
    sha_.Update(routes, sizeof(routes));
    sequence->page_hashes.push_back(sha_.FinishDigest());
  }
}

int64_t BlockManager::MatchPrefix(Sequence* sequence, uint64_t version) {
  const int64_t before = sequence->computed;
  // Only whole pages are shared, and a page half computed is its sequence's
  // own.
  if (before % kPageTokens != 0) return 0;
  // One token at least is left to compute: its hidden row is what is sampled
  // from.
  const int64_t whole = (sequence->record.size() - 1) / kPageTokens;
  ExtendHashes(sequence, whole, version);
  for (int64_t i = before / kPageTokens; i < whole; ++i) {
    const auto found = by_hash_.find(sequence->page_hashes[i]);
    if (found == by_hash_.end()) break;
    Hold(found->second);
    sequence->pages.push_back(found->second);
  }
  const int64_t pages = static_cast<int64_t>(sequence->pages.size());
  sequence->pages_registered = pages;
  sequence->computed = pages * kPageTokens;
  return sequence->computed - before;
}

bool BlockManager::Grow(Sequence* sequence, int64_t tokens) {
  const int64_t needed = (tokens + kPageTokens - 1) / kPageTokens;
  const int64_t more = needed - static_cast<int64_t>(sequence->pages.size());
  // All or nothing: a sequence that holds some pages and waits for more could
  // wait for another that does the same.
  if (more > free_count_) return false;
  for (int64_t i = 0; i < more; ++i) sequence->pages.push_back(TakeFree());
  return true;
}

void BlockManager::Register(Sequence* sequence, uint64_t version) {
  const int64_t whole = sequence->computed / kPageTokens;
  ExtendHashes(sequence, whole, version);
  for (int64_t i = sequence->pages_registered; i < whole; ++i) {
    const int32_t page = sequence->pages[i];
    // Two sequences that computed the same page at once: the first stays the
    // one that is found.
    const bool is_new = by_hash_.emplace(sequence->page_hashes[i], page).second;
    if (!is_new) continue;
    pages_[page].named = true;
    pages_[page].hash = sequence->page_hashes[i];
  }
  sequence->pages_registered = std::max(sequence->pages_registered, whole);
}

void BlockManager::Release(Sequence* sequence) {
  // Last page first, so that a chain is forgotten from its end.
  for (size_t i = sequence->pages.size(); i-- > 0;) Drop(sequence->pages[i]);
  sequence->pages.clear();
  sequence->computed = 0;
  sequence->pages_registered = 0;
}

void BlockManager::ForgetAll() {
  for (Page& page : pages_) page.named = false;
  by_hash_.clear();
}

void BlockManager::CheckIntegrity(
    const std::vector<const Sequence*>& sequences) const {
  std::vector<int32_t> references(pages_.size(), 0);
  for (const Sequence* sequence : sequences) {
    CHECK(sequence->computed <=
          static_cast<int64_t>(sequence->pages.size()) * kPageTokens)
        << "sequence " << sequence->id << " has keys without pages";
    for (const int32_t page : sequence->pages) ++references[page];
  }
  int32_t named = 0;
  int32_t free = 0;
  for (int32_t i = 0; i < pages(); ++i) {
    CHECK_EQ(pages_[i].references, references[i]) << "page " << i;
    free += references[i] == 0;
    if (!pages_[i].named) continue;
    ++named;
    const auto found = by_hash_.find(pages_[i].hash);
    CHECK(found != by_hash_.end() && found->second == i) << "page " << i;
  }
  CHECK_EQ(named, static_cast<int32_t>(by_hash_.size()));
  CHECK_EQ(free, free_count_);
  int32_t listed = 0;
  int32_t previous = -1;
  for (int32_t i = free_first_; i >= 0; i = pages_[i].next) {
    CHECK_EQ(pages_[i].references, 0) << "page " << i;
    CHECK_EQ(pages_[i].previous, previous) << "page " << i;
    previous = i;
    CHECK(++listed <= free_count_) << "the free list is a ring";
  }
  CHECK_EQ(listed, free_count_);
  CHECK_EQ(previous, free_last_);
}

}  // namespace temper
