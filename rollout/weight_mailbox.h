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
#include "kernels/model/weights.h"
#include "rollout/weight_client.h"

namespace temper {

class WeightMailbox {
 public:
  using Delivery = absl::StatusOr<std::shared_ptr<const ReceivedWeights>>;

  // Replaces what was not taken yet.
  void Put(Delivery delivery);
  std::optional<Delivery> Take();

 private:
  Mutex mutex_;
  std::optional<Delivery> delivery_ ABSL_GUARDED_BY(mutex_);
};

// InvalidArgument, naming the first difference, unless `manifest` lists exactly
// the tensors of `parameters`, in their order and shapes.
absl::Status CheckManifest(const WeightManifest& manifest,
                           const std::vector<Parameter>& parameters);

}  // namespace temper

#endif  // ROLLOUT_WEIGHT_MAILBOX_H_
