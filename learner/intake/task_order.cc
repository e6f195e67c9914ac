#include "learner/intake/task_order.h"

#include <utility>

#include "kernels/base/log.h"
#include "kernels/base/rng.h"

namespace temper {

TaskOrder::TaskOrder(uint64_t seed, std::vector<Part> parts)
    : seed_(seed),
      parts_(std::move(parts)),
      counts_(parts_.size()),
      epochs_(parts_.size()) {
  CHECK(!parts_.empty());
  for (const Part& part : parts_) {
    CHECK(part.weight > 0 && !part.tasks.empty());
    weight_sum_ += part.weight;
  }
}

size_t TaskOrder::TaskAt(int64_t position) {
  CHECK_GE(position, 0);
  if (position < taken_) {
    taken_ = 0;
    counts_.assign(parts_.size(), 0);
  }
  size_t next = 0;
  for (; taken_ <= position; ++taken_) {
    // The part that is furthest behind its share; of equals the first.
    double most = -1;
    for (size_t p = 0; p < parts_.size(); ++p) {
      const double share = parts_[p].weight / weight_sum_;
      const double behind = share * static_cast<double>(taken_ + 1) -
                            static_cast<double>(counts_[p]);
      if (behind > most) most = behind, next = p;
    }
    ++counts_[next];
  }
  const Part& part = parts_[next];
  const auto size = static_cast<int64_t>(part.tasks.size());
  const int64_t turn = counts_[next] - 1;
  Epoch& epoch = epochs_[next];
  if (epoch.number != turn / size) {
    epoch.number = turn / size;
    epoch.order = Permutation(
        {seed_, RngPurpose::kTaskOrder, static_cast<uint64_t>(epoch.number),
         static_cast<uint32_t>(next)},
        static_cast<uint32_t>(size));
  }
  return part.tasks[epoch.order[static_cast<size_t>(turn % size)]];
}

}  // namespace temper
