#include "learner/intake/task_order.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace temper {
namespace {

// Tasks first, first + 1, ..
std::vector<size_t> Tasks(size_t first, size_t count) {
  std::vector<size_t> tasks;
  for (size_t i = 0; i < count; ++i) tasks.push_back(first + i);
  return tasks;
}

std::vector<TaskOrder::Part> Parts() {
  return {{5, Tasks(0, 40)}, {0.5, Tasks(100, 3)}, {2.5, Tasks(200, 7)}};
}

std::vector<size_t> First(TaskOrder order, int64_t count) {
  std::vector<size_t> tasks;
  for (int64_t i = 0; i < count; ++i) tasks.push_back(order.TaskAt(i));
  return tasks;
}

TEST(TaskOrderTest, EachPartHasItsShareAfterAnyNumberOfPositions) {
  std::map<size_t, int64_t> counts;
  TaskOrder order(1, Parts());
  for (int64_t i = 0; i < 4000; ++i) {
    ++counts[order.TaskAt(i) / 100];
    const double taken = static_cast<double>(i + 1);
    for (size_t part = 0; part < 3; ++part) {
      ASSERT_LE(std::abs(static_cast<double>(counts[part]) -
                         taken * Parts()[part].weight / 8),
                1)
          << part << " after " << taken;
    }
  }
}

TEST(TaskOrderTest, EachTaskOfAPartComesOnceBeforeAnyComesTwice) {
  std::map<size_t, std::vector<size_t>> of_part;
  for (const size_t task : First(TaskOrder(1, Parts()), 400)) {
    of_part[task / 100].push_back(task);
  }
  for (const auto& [part, tasks] : of_part) {
    const size_t size = Parts()[part].tasks.size();
    for (size_t i = 0; i + size <= tasks.size(); i += size) {
      const std::set<size_t> epoch(tasks.begin() + i, tasks.begin() + i + size);
      EXPECT_EQ(epoch.size(), size) << part << " from " << i;
    }
  }
  // Epochs are unlike each other, and so are seeds.
  const auto& seven = of_part[2];
  EXPECT_FALSE(std::equal(seven.begin(), seven.begin() + 7, seven.begin() + 7));
  EXPECT_NE(First(TaskOrder(1, Parts()), 40), First(TaskOrder(2, Parts()), 40));
}

TEST(TaskOrderTest, APositionHasItsTaskHoweverItIsAskedFor) {
  const std::vector<size_t> whole = First(TaskOrder(1, Parts()), 300);
  TaskOrder order(1, Parts());
  for (const int64_t position : {250, 3, 3, 299, 0, 120, 121}) {
    EXPECT_EQ(order.TaskAt(position), whole[position]) << position;
  }
}

}  // namespace
}  // namespace temper
