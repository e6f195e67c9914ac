// Who owns which page of the latent cache: reference counts, and sharing of
// whole pages between sequences that begin alike.
//
// A whole page is named by a SHA-256 chain over the weight version, its 64
// tokens, and the versions that fixed their routes (a token's keys follow from
// exactly these, for it and all before it). A page that nobody holds keeps its
// name, and can be found again, until it is needed for something else: the
// longest unheld goes first. Goal: O(1) for every page taken or given back.
//
// Pure bookkeeping: no tensors, no clock, no randomness, hence deterministic.
// Not thread-safe.

#ifndef ROLLOUT_BLOCK_MANAGER_H_
#define ROLLOUT_BLOCK_MANAGER_H_

#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "kernels/base/checksum.h"
#include "rollout/sequence.h"

namespace temper {

class BlockManager {
 public:
  // Pages 0 .. pages - 1, all free. CHECKs pages > 0.
  explicit BlockManager(int32_t pages);

  int32_t pages() const { return static_cast<int32_t>(pages_.size()); }
  int32_t free_pages() const { return free_count_; }  // held by nobody

  // Adds the known whole pages that continue what the sequence has computed,
  // if that ends on a page boundary, under weights `version`; its last token is
  // always left to compute. Moves `computed`. Returns the tokens found.
  int64_t MatchPrefix(Sequence* sequence, uint64_t version);

  // Sees that the sequence has pages for `tokens` tokens. False, and nothing
  // changed, if too few are free.
  bool Grow(Sequence* sequence, int64_t tokens);

  // Makes the whole pages among the first `computed` tokens findable. Call when
  // their keys are written, or will be by the very batch that reads them first.
  void Register(Sequence* sequence, uint64_t version);

  // Gives back all pages; `computed` becomes 0. Registered pages stay findable.
  void Release(Sequence* sequence);

  // Forgets the names of all pages: their weights are gone.
  void ForgetAll();

  // CHECKs that counts, free list and names agree with one another and with
  // `sequences`, which must be all that hold pages. O(pages).
  void CheckIntegrity(const std::vector<const Sequence*>& sequences) const;

 private:
  struct Page {
    int32_t references = 0;
    int32_t previous = -1;  // in the free list, if references is 0
    int32_t next = -1;
    bool named = false;
    Sha256Digest hash = {};
  };

  void ExtendHashes(Sequence* sequence, int64_t count, uint64_t version);
  int32_t TakeFree();
  void Hold(int32_t page);
  void Drop(int32_t page);
  void Unlink(int32_t page);
  void AppendFree(int32_t page);
  void PrependFree(int32_t page);
  void Unname(int32_t page);

  std::vector<Page> pages_;
  absl::flat_hash_map<Sha256Digest, int32_t> by_hash_;
  Sha256 sha_;
  int32_t free_first_ = -1;
  int32_t free_last_ = -1;
  int32_t free_count_ = 0;
};

}  // namespace temper

#endif  // ROLLOUT_BLOCK_MANAGER_H_
