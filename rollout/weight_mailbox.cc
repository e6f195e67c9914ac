#include "rollout/weight_mailbox.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace temper {

void WeightMailbox::Put(Delivery delivery) {
  MutexLock lock(&mutex_);
  if (delivery.ok()) {
    version_ = std::move(delivery);
    // What failed before it does not matter any more.
    error_.reset();
  } else {
    error_ = std::move(delivery);
  }
}

std::optional<WeightMailbox::Delivery> WeightMailbox::Take() {
  MutexLock lock(&mutex_);
  // An error that came later does not hide weights that are there: the worker
  // takes them first and hears of the error next time.
  std::optional<Delivery>& next = version_.has_value() ? version_ : error_;
  return std::exchange(next, std::nullopt);
}

absl::Status CheckManifest(const WeightManifest& manifest,
                           const std::vector<Parameter>& parameters) {
  const int count = static_cast<int>(parameters.size());
  // By name and shape, in order: values are one array, and another order of the
  // same sizes would be taken in without a sign.
  for (int i = 0; i < std::min(count, manifest.tensors_size()); ++i) {
    const WeightTensor& tensor = manifest.tensors(i);
    const Parameter& parameter = parameters[i];
    if (tensor.name() != parameter.name ||
        !std::equal(tensor.shape().begin(), tensor.shape().end(),
                    parameter.shape.begin(), parameter.shape.end())) {
      return absl::InvalidArgumentError(absl::StrCat(
          "weight version ", manifest.version(), ": tensor ", i, " is ",
          tensor.name(), ", the model's is ", parameter.name,
          " or has another shape; learner and worker read different models"));
    }
  }
  if (manifest.tensors_size() == count) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("weight version ", manifest.version(), " has ",
                   manifest.tensors_size(), " tensors, the model ", count,
                   "; learner and worker read different models"));
}

}  // namespace temper
