// What is known of every byte of a block's shared memory: who wrote it last and
// who has read it since, and whether that is over. From this and from who is
// ordered before whom (order.h) follows whether an access is right.
//
// Failures, by name:
//   "race"                 two accesses, one of them a write, that no barrier
//                          orders. Two atomics race not.
//   "uninitialised"        a read of what no thread of the block has written.
//   "read before its wait" an access to what an asynchronous copy still writes,
//                          or wrote without the thread having waited for it.
//   "overwritten too early" a write to what an asynchronous operation still
//                          reads, or read without the thread having waited.
//   "missing proxy fence"  an asynchronous operation on what a thread wrote and
//                          did not fence since.
//   "object"               a plain access to an mbarrier.
//
// Not thread-safe.

#ifndef KERNELS_CUDA_SIMT_SHADOW_H_
#define KERNELS_CUDA_SIMT_SHADOW_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/cuda/simt/order.h"
#include "kernels/cuda/simt/site.h"

namespace temper::simt {

// By what an access is made: a thread's own loads and stores, or a unit that
// works beside it, which sees them only after a fence.
enum class Proxy { kGeneric, kAsync };

struct Access {
  bool write = false;
  bool atomic = false;
  bool object = false;  // of an mbarrier, by what is made for it
  Proxy proxy = Proxy::kGeneric;
  // Who does it, and whose knowledge says what is ordered before it: for what a
  // unit does, that of the thread which asked for it.
  ActorId actor = 0;
  ActorId asker = 0;
  Site site;
};

class Shadow {
 public:
  static Shadow& Get() { return *instance_; }
  // `words` of shared memory, of which nothing is known.
  void BeginBlock(size_t words);

  // Checks the access and notes it. `at` counts bytes of shared memory.
  void Touch(size_t at, size_t bytes, const Access& access);
  // The bytes are being written: until EndWrite, who touches them fails.
  void BeginWrite(size_t at, size_t bytes, const Access& access);
  void EndWrite(size_t at, size_t bytes, const Access& access);
  // The bytes are being read by a unit: who writes them fails.
  void BeginRead(size_t at, size_t bytes, const Access& access);
  void EndRead(size_t at, size_t bytes, const Access& access);
  // What `thread` has written is visible to asynchronous operations.
  void FenceProxy(ActorId thread);

 private:
  static Shadow* const instance_;  // never destroyed

  struct Event {
    uint32_t time = 0;
    Site site;
    ActorId actor = 0;
    uint16_t flags = 0;
  };
  // Threads of one warp that read at the same time of theirs, or one unit.
  struct Readers {
    uint32_t time = 0;
    Site site;           // of the last
    uint32_t lanes = 0;  // 0: nobody
    uint16_t group = 0;  // see GroupOf
    bool atomic = false;
  };
  // Of a word or, where its bytes are not alike, of each byte. The reads are
  // those since the write; one that is ordered before a later one is left out.
  struct Cell {
    Event write;
    Readers read;
    uint32_t more_reads = 0;  // a place of reads_, 0 for none
    uint32_t readers_at_work = 0;
  };
  struct Word {
    Cell whole;
    uint32_t bytes = 0;  // a place of split_, 0 while the word is whole
    uint32_t block = 0;  // in which this was noted
  };
  struct MoreReads {
    Readers read;
    uint32_t more = 0;
  };
  enum class Step { kTouch, kBeginWrite, kEndWrite, kBeginRead, kEndRead };

  void Walk(size_t at, size_t bytes, const Access& access, Step step,
            uint16_t flags);
  void Apply(Cell& cell, size_t at, const Access& access, Step step,
             uint16_t flags);
  void CheckWrite(const Cell& cell, size_t at, const Access& access) const;
  void CheckRead(const Cell& cell, size_t at, const Access& access) const;
  void CheckFence(const Cell& cell, size_t at, const Access& access) const;
  void NoteRead(Cell& cell, const Access& access);
  bool Knows(const Access& access, const Event& event) const;
  // The reader that is not ordered before it; false if there is none.
  bool FindUnordered(const Access& access, const Readers& readers,
                     Event* unordered) const;
  bool ReadAgain(size_t at, size_t bytes, const Access& access);
  [[noreturn]] void Report(const char* name, const Access& access, size_t at,
                           const char* verb, const Event& other) const;

  uint32_t block_ = 0;
  std::vector<Word> words_;
  std::vector<std::array<Cell, 4>> split_;
  std::vector<MoreReads> reads_;
  std::array<uint32_t, kActorsMax> fenced_ = {};  // before this time
};

}  // namespace temper::simt

#endif  // KERNELS_CUDA_SIMT_SHADOW_H_
