// Where the weight client's thread leaves the newest version for the engine's
// thread, and the check that it fits the model. Thread-safe.

#ifndef ROLLOUT_WEIGHT_MAILBOX_H_
#define ROLLOUT_WEIGHT_MAILBOX_H_

#include <memory>
#include <optional>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/mutex.h"
#include "kernels/model/published_weights.h"
#include "rollout/weight_client.h"

namespace temper {

class WeightMailbox {
 public:
  using Delivery = absl::StatusOr<std::shared_ptr<const ReceivedWeights>>;

  // A version replaces all that was not taken yet, an error an error alone: the
  // client hands a version over once.
  void Put(Delivery delivery);
  // The version, if there is one, before the error.
  std::optional<Delivery> Take();

 private:
  Mutex mutex_;
  std::optional<Delivery> version_ ABSL_GUARDED_BY(mutex_);
  std::optional<Delivery> error_ ABSL_GUARDED_BY(mutex_);
};

// InvalidArgument, naming the first difference, unless `manifest` lists exactly
// `tensors`, in their order, types and shapes.
absl::Status CheckManifest(const WeightManifest& manifest,
                           const std::vector<PublishedParameter>& tensors);

}  // namespace temper

#endif  // ROLLOUT_WEIGHT_MAILBOX_H_
