#include "rollout/delivery_queue.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace temper {

void DeliveryQueue::StartStream() {
  // The learner counted them as returned when it lost the stream. To begin one
  // now would be to sample what another worker samples too.
  waiting_.clear();
  for (Outgoing& outgoing : unacked_) outgoing.sent = false;
}

void DeliveryQueue::TakeLease(Lease* lease) {
  const auto samples = lease->samples();
  lease->clear_samples();
  for (const uint32_t sample : samples) {
    const Id id{lease->group(), sample};
    // As of now, not of when the sample would begin: by then its ack may be
    // here, and the learner, which has taken it off this lease, would see it
    // sampled for nothing.
    if (held_.count(id) > 0) continue;
    waiting_[id] = lease->lease();
    lease->add_samples(sample);
  }
}

bool DeliveryQueue::Begin(uint64_t lease, uint64_t group, uint32_t sample) {
  const auto found = waiting_.find({group, sample});
  if (found == waiting_.end() || found->second != lease) return false;
  held_.insert(found->first);
  waiting_.erase(found);
  return true;
}

absl::Status DeliveryQueue::Add(Trajectory trajectory) {
  if (unacked_.size() >= unacked_max_) {
    return absl::ResourceExhaustedError(
        absl::StrCat(unacked_.size(), " trajectories are unacked; at most ",
                     unacked_max_, " may be"));
  }
  const Id id{trajectory.key().group(), trajectory.key().sample()};
  waiting_.erase(id);
  held_.insert(id);
  unacked_.push_back({std::move(trajectory), false});
  return absl::OkStatus();
}

const Trajectory* DeliveryQueue::SendNext() {
  for (Outgoing& outgoing : unacked_) {
    if (outgoing.sent) continue;
    // Wholly or not: a stream that breaks on the way starts it again.
    outgoing.sent = true;
    return &outgoing.trajectory;
  }
  return nullptr;
}

bool DeliveryQueue::has_unsent() const {
  return std::any_of(unacked_.begin(), unacked_.end(),
                     [](const Outgoing& outgoing) { return !outgoing.sent; });
}

void DeliveryQueue::Ack(const TrajectoryKey& key) {
  const Id id{key.group(), key.sample()};
  // Only what was delivered: the ack of a copy must not free a sample that is
  // running.
  const size_t before = unacked_.size();
  unacked_.remove_if([&id](const Outgoing& outgoing) {
    const TrajectoryKey& own = outgoing.trajectory.key();
    return Id{own.group(), own.sample()} == id;
  });
  if (unacked_.size() < before) held_.erase(id);
}

}  // namespace temper
