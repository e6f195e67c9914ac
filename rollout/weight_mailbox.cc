#include "rollout/weight_mailbox.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/tensor/dtype.h"

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
                           const std::vector<PublishedParameter>& tensors) {
  const int count = static_cast<int>(tensors.size());
  // By name and shape, in order: the bytes are one array, and another order of
  // the same sizes would be taken in without a sign.
  for (int i = 0; i < std::min(count, manifest.tensors_size()); ++i) {
    const WeightTensor& given = manifest.tensors(i);
    const PublishedParameter& wanted = tensors[i];
    if (given.name() != wanted.name ||
        !std::equal(given.shape().begin(), given.shape().end(),
                    wanted.shape.begin(), wanted.shape.end())) {
      return absl::InvalidArgumentError(absl::StrCat(
          "weight version ", manifest.version(), ": tensor ", i, " is ",
          given.name(), ", the model's is ", wanted.name,
          " or has another shape; learner and worker read different models"));
    }
    if (given.dtype() != FileTypeName(wanted.dtype)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "weight version ", manifest.version(), ": tensor ", given.name(),
          " is ", given.dtype(), ", this worker computes with ",
          FileTypeName(wanted.dtype),
          "; learner and worker are of different versions of temper"));
    }
  }
  if (manifest.tensors_size() == count) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("weight version ", manifest.version(), " has ",
                   manifest.tensors_size(), " tensors, the model ", count,
                   "; learner and worker read different models"));
}

}  // namespace temper
