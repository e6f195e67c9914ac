// Which accesses are ordered. Everything that touches shared memory is an
// actor: the threads, and the units that work beside them. An actor's time
// advances when it tells others of what it has done; each actor knows of every
// other up to which time its deeds are ordered before what it does now. These
// are vector clocks; whoever met at the same barrier shares one.
//
// Not thread-safe.

#ifndef KERNELS_CUDA_SIMT_ORDER_H_
#define KERNELS_CUDA_SIMT_ORDER_H_

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/cuda/simt/thread.h"

namespace temper::simt {

using ActorId = uint16_t;
// The tensor copies, each warpgroup's tensor core, then the threads.
inline constexpr ActorId kTensorCopies = 0;
inline constexpr ActorId kTensorCores = 1;
inline constexpr ActorId kThreads = kTensorCores + kBlockThreadsMax / 128;
inline constexpr uint32_t kActorsMax = kThreads + kBlockThreadsMax;

inline ActorId ActorOf(const Thread& thread) {
  return static_cast<ActorId>(kThreads + thread.rank);
}

// What is known of every actor: its time, by its id.
using Knowledge = std::vector<uint32_t>;

// What a barrier in memory hands on: what those knew who released it.
class Handover {
 private:
  friend class Order;
  Knowledge knowledge_;
  std::shared_ptr<const Knowledge> last_joined_;
  uint32_t version_ = 0;
  // The last that took it over, and what came of that.
  uint32_t taken_version_ = 0;
  std::shared_ptr<const Knowledge> taken_from_;
  std::shared_ptr<const Knowledge> taken_;
};

class Order {
 public:
  static Order& Get() { return *instance_; }
  void BeginBlock(uint32_t threads);

  uint32_t Now(ActorId actor) const { return now_[actor]; }
  // Whether what `other` did at `time` is ordered before what `actor` does.
  bool Knows(ActorId actor, ActorId other, uint32_t time) const {
    if (actor == other) return true;
    const Knowledge* known = known_[actor].get();
    return known != nullptr && (*known)[other] >= time;
  }

  // They met: each knows all that any of them knew or did.
  void Meet(const std::vector<ActorId>& actors);
  // What `actor` knows and did goes into `handover`, on top of what is there.
  void Release(ActorId actor, Handover& handover);
  // What is in `handover` is known to `actor`.
  void Acquire(ActorId actor, Handover& handover);
  // `actor` comes to know what `from` knows and did, which may go on.
  void Inherit(ActorId actor, ActorId from);
  // A later time begins for `actor`, of which nobody knows.
  void Advance(ActorId actor) { ++now_[actor]; }

 private:
  static Order* const instance_;  // never destroyed

  uint32_t actors_ = 0;
  std::array<uint32_t, kActorsMax> now_ = {};
  // Null: it knows of nothing but itself.
  std::array<std::shared_ptr<const Knowledge>, kActorsMax> known_;
};

}  // namespace temper::simt

#endif  // KERNELS_CUDA_SIMT_ORDER_H_
