#include "kernels/cuda/simt/order.h"

#include <algorithm>

namespace temper::simt {
namespace {

void Join(Knowledge& to, const Knowledge* from) {
  if (from == nullptr) return;
  for (size_t i = 0; i < to.size(); ++i) to[i] = std::max(to[i], (*from)[i]);
}

}  // namespace

Order* const Order::instance_ = new Order;

void Order::BeginBlock(uint32_t threads) {
  actors_ = kThreads + threads;
  for (uint32_t actor = 0; actor < actors_; ++actor) {
    now_[actor] = 1;
    known_[actor].reset();
  }
}

void Order::Meet(const std::vector<ActorId>& actors) {
  auto met = std::make_shared<Knowledge>(actors_);
  const Knowledge* last = nullptr;
  for (const ActorId actor : actors) {
    if (known_[actor].get() != last) Join(*met, last = known_[actor].get());
  }
  for (const ActorId actor : actors) (*met)[actor] = now_[actor]++;
  for (const ActorId actor : actors) known_[actor] = met;
}

void Order::Release(ActorId actor, Handover& handover) {
  handover.knowledge_.resize(actors_);
  if (known_[actor] != handover.last_joined_) {
    Join(handover.knowledge_, known_[actor].get());
    handover.last_joined_ = known_[actor];
  }
  uint32_t& time = handover.knowledge_[actor];
  time = std::max(time, now_[actor]++);
  ++handover.version_;
}

void Order::Acquire(ActorId actor, Handover& handover) {
  if (handover.version_ == 0) return;
  if (handover.taken_version_ != handover.version_ ||
      handover.taken_from_ != known_[actor] || handover.taken_ == nullptr) {
    auto taken = std::make_shared<Knowledge>(handover.knowledge_);
    Join(*taken, known_[actor].get());
    handover.taken_version_ = handover.version_;
    handover.taken_from_ = known_[actor];
    handover.taken_ = std::move(taken);
  }
  known_[actor] = handover.taken_;
}

void Order::Inherit(ActorId actor, ActorId from) {
  Handover handover;
  Release(from, handover);
  Acquire(actor, handover);
}

}  // namespace temper::simt
