// Which train task stands at each position of a run: parts of the tasks, mixed
// by weight. Every epoch of a part is its own permutation, a function of (seed,
// part, epoch) alone, so that each of its tasks comes once before any comes
// twice; which part a position takes from is a function of the weights alone.
// The same after a resume, whatever was asked for before.
//
// Not thread-safe.

#ifndef LEARNER_INTAKE_TASK_ORDER_H_
#define LEARNER_INTAKE_TASK_ORDER_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace temper {

class TaskOrder {
 public:
  struct Part {
    double weight = 1;          // > 0
    std::vector<size_t> tasks;  // not empty; whatever numbers the caller has
  };

  // At least one part (CHECKed, as the above).
  TaskOrder(uint64_t seed, std::vector<Part> parts);

  // The task at `position` >= 0. Linear in how far it lies from the position
  // asked for before, or from 0 if it lies in front of that.
  size_t TaskAt(int64_t position);

 private:
  struct Epoch {
    int64_t number = -1;
    std::vector<uint32_t> order;  // indices into the part's tasks
  };

  const uint64_t seed_;
  const std::vector<Part> parts_;
  double weight_sum_ = 0;

  int64_t taken_ = 0;            // positions before this one are counted below
  std::vector<int64_t> counts_;  // of each part
  std::vector<Epoch> epochs_;    // of each part, the last one looked at
};

}  // namespace temper

#endif  // LEARNER_INTAKE_TASK_ORDER_H_
