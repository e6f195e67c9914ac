// The quickstart's tasks: seeded, endless, in two environments.
//
//   one call   interpreter   "calc 37*48+15": write Python, answer its result
//   two calls  interpreter   "get k7 then *63+25": look k7 up, only then can
//   the
//                            Python be written; answer its result
//   math       math          "add 347 and 586": digit by digit with carries in
//                            the reasoning, answer directly
//
// Train and held-out tasks are disjoint by content: the CRC-32C of the task's
// canonical text (its numbers and operators; neither the wording nor the order
// of a sum) says which a task is, whatever the seed. All tasks begin with the
// same system message and offer the same tools: one preamble for a whole batch.
//
// Pure functions of their arguments, on every machine.

#ifndef TOOLS_QUICKSTART_TASKS_H_
#define TOOLS_QUICKSTART_TASKS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/base/rng.h"
#include "proto/task.pb.h"

namespace temper {

enum class QuickstartKind { kOneCall, kTwoCalls, kMath };
enum class TaskSplit { kTrain, kHeldOut };

inline constexpr char kQuickstartSystem[] = "Answer with a number.";

// A stream of random numbers for one item of a generator.
class QuickstartDraws {
 public:
  // Items differ in `index`; `lane` tells apart the streams of one item.
  QuickstartDraws(uint64_t seed, uint64_t index, uint32_t lane)
      : key_{seed, RngPurpose::kTaskGenerator, index, lane, 0} {}
  // In [low, high].
  int Between(int low, int high);
  // True in `probability` of the cases.
  bool Chance(double probability);

 private:
  RngKey key_;
};

// A task with what its generator knows of it.
struct QuickstartTask {
  QuickstartKind kind;
  std::string question;   // the user message
  std::string canonical;  // decides the split
  std::string answer;
  // One call: the whole Python expression. Two calls: what follows the value,
  // "*63+25". Math: empty.
  std::string expression;
  std::string key, value;   // two calls: the look-up
  int left = 0, right = 0;  // math: the terms
};

// Which split a canonical text belongs to: one in ten is held out.
TaskSplit SplitOf(const std::string& canonical);

// Task `index` of the endless stream of (seed, split); its kind is index % 3.
QuickstartTask MakeQuickstartTask(uint64_t seed, TaskSplit split,
                                  uint64_t index);

// As a line of tasks.jsonl, with id "train-000017" or "heldout-000017".
Task ToTask(const QuickstartTask& task, TaskSplit split, uint64_t index);

// `count` tasks with distinct canonical texts, the kinds in turn; `count` at
// most 30000 (CHECKed: there are no more held-out tasks of every kind).
std::vector<Task> QuickstartTasks(uint64_t seed, TaskSplit split,
                                  uint32_t count);

// The value of an expression of integers, + - * and brackets, as Python has it.
// CHECKs that it is one, and that the value fits.
int64_t EvaluateExpression(const std::string& expression);

}  // namespace temper

#endif  // TOOLS_QUICKSTART_TASKS_H_
