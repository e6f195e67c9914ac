#include "tools/quickstart/tasks.h"

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "environments/interpreter/interpreter_tools.h"
#include "kernels/base/checksum.h"
#include "kernels/base/log.h"
#include "nlohmann/json.hpp"

namespace temper {
namespace {

constexpr uint32_t kHeldOutModulus = 10;
constexpr uint32_t kTasksAtOnceMax = 30000;
// One draw in ten is held out: this many miss it never.
constexpr uint32_t kAttemptsMax = 10000;

std::string Number(QuickstartDraws* draws) {
  return absl::StrCat(draws->Between(11, 99));
}

QuickstartTask OneCall(QuickstartDraws* draws) {
  QuickstartTask task;
  task.kind = QuickstartKind::kOneCall;
  const std::string a = Number(draws), b = Number(draws), c = Number(draws);
  // Two operations on two-digit numbers: above what the small model does in its
  // head, one line of Python.
  const std::string forms[] = {
      absl::StrCat(a, "*", b, "+", c), absl::StrCat(a, "*", b, "-", c),
      absl::StrCat("(", a, "+", b, ")*", c), absl::StrCat(a, "+", b, "*", c)};
  task.expression = forms[draws->Between(0, 3)];
  const std::string& e = task.expression;
  const std::string questions[] = {
      absl::StrCat("calc ", e), absl::StrCat("what is ", e),
      absl::StrCat("eval ", e), absl::StrCat(e, "=")};
  task.question = questions[draws->Between(0, 3)];
  task.canonical = e;
  task.answer = absl::StrCat(EvaluateExpression(e));
  return task;
}

QuickstartTask TwoCalls(QuickstartDraws* draws) {
  QuickstartTask task;
  task.kind = QuickstartKind::kTwoCalls;
  task.key = absl::StrFormat("%c%d", 'a' + draws->Between(0, 25),
                             draws->Between(0, 9));
  task.value = absl::StrCat(draws->Between(10, 99));
  const std::string b = Number(draws), c = Number(draws);
  task.expression = absl::StrCat("*", b, "+", c);
  const std::string& e = task.expression;
  const std::string questions[] = {
      absl::StrCat("get ", task.key, " then ", e),
      absl::StrCat("look up ", task.key, ", do ", e),
      absl::StrCat(task.key, " -> ", e)};
  task.question = questions[draws->Between(0, 2)];
  task.canonical = absl::StrCat(task.key, "=", task.value, e);
  task.answer = absl::StrCat(EvaluateExpression(task.value + e));
  return task;
}

QuickstartTask MathSum(QuickstartDraws* draws) {
  QuickstartTask task;
  task.kind = QuickstartKind::kMath;
  task.left = draws->Between(100, 999);
  task.right = draws->Between(100, 999);
  const std::string questions[] = {
      absl::StrCat("add ", task.left, " and ", task.right),
      absl::StrCat("sum ", task.left, ",", task.right),
      absl::StrCat(task.left, " plus ", task.right)};
  task.question = questions[draws->Between(0, 2)];
  // Sums that differ in their order alone are one task: else the held-out one
  // would be in training.
  task.canonical = absl::StrCat(std::min(task.left, task.right), "+",
                                std::max(task.left, task.right));
  task.answer = absl::StrCat(task.left + task.right);
  return task;
}

// The first draw of (seed, index), counted from `*attempt`, that belongs to
// `split`; leaves in `*attempt` the number of the next.
QuickstartTask Draw(uint64_t seed, TaskSplit split, uint64_t index,
                    uint32_t* attempt) {
  while (*attempt < kAttemptsMax) {
    // A lane for each attempt, so that task `index` does not hang on how many
    // were refused before it.
    QuickstartDraws draws(seed, index, (*attempt)++);
    QuickstartTask task;
    switch (index % 3) {
      case 0:
        task = OneCall(&draws);
        break;
      case 1:
        task = TwoCalls(&draws);
        break;
      default:
        task = MathSum(&draws);
    }
    if (SplitOf(task.canonical) == split) return task;
  }
  CHECK(false) << "no task of the split in " << kAttemptsMax << " draws";
  return {};
}

// Reads an expression left to right by precedence.
class Evaluator {
 public:
  explicit Evaluator(const std::string& text) : text_(text) {}
  int64_t Run() {
    const int64_t value = Sum();
    CHECK_EQ(at_, text_.size()) << text_;
    return value;
  }

 private:
  char Peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  int64_t Sum() {
    int64_t value = Product();
    while (Peek() == '+' || Peek() == '-') {
      const int64_t sign = text_[at_++] == '+' ? 1 : -1;
      value += sign * Product();
    }
    return value;
  }
  int64_t Product() {
    int64_t value = Factor();
    while (Peek() == '*') {
      ++at_;
      CHECK(!__builtin_mul_overflow(value, Factor(), &value)) << text_;
    }
    return value;
  }
  int64_t Factor() {
    if (Peek() == '(') {
      ++at_;
      const int64_t value = Sum();
      CHECK_EQ(Peek(), ')') << text_;
      ++at_;
      return value;
    }
    const size_t begin = at_;
    int64_t value = 0;
    while (Peek() >= '0' && Peek() <= '9')
      value = value * 10 + (text_[at_++] - '0');
    CHECK(at_ > begin && at_ - begin < 10) << text_;
    return value;
  }

  const std::string& text_;
  size_t at_ = 0;
};

}  // namespace

int QuickstartDraws::Between(int low, int high) {
  const int offset = static_cast<int>(UniformBelow(key_, high - low + 1));
  ++key_.ordinal;
  return low + offset;
}

bool QuickstartDraws::Chance(double probability) {
  // Used up whatever the probability: a rate that becomes 0 moves no later
  // draw.
  const float uniform = Uniform(key_);
  ++key_.ordinal;
  return uniform < probability;
}

TaskSplit SplitOf(const std::string& canonical) {
  // By the task itself, whatever the seed: what is held out of one run is held
  // out of all.
  return Crc32c(canonical) % kHeldOutModulus == 0 ? TaskSplit::kHeldOut
                                                  : TaskSplit::kTrain;
}

QuickstartTask MakeQuickstartTask(uint64_t seed, TaskSplit split,
                                  uint64_t index) {
  uint32_t attempt = 0;
  return Draw(seed, split, index, &attempt);
}

Task ToTask(const QuickstartTask& quickstart, TaskSplit split, uint64_t index) {
  const bool math = quickstart.kind == QuickstartKind::kMath;
  const std::string name = split == TaskSplit::kTrain ? "train" : "heldout";
  Task task;
  task.set_id(absl::StrFormat("%s-%06d", name, index));
  task.set_split(name);
  task.set_environment(math ? "math" : "interpreter");
  Message* system = task.add_messages();
  system->set_role("system");
  system->set_content(kQuickstartSystem);
  Message* user = task.add_messages();
  user->set_role("user");
  user->set_content(quickstart.question);
  nlohmann::ordered_json payload = {{"answer", quickstart.answer}};
  if (quickstart.kind == QuickstartKind::kTwoCalls) {
    // The value is in the environment alone: it cannot be had without the
    // look-up.
    payload["table"] = {{quickstart.key, quickstart.value}};
  }
  if (math) {
    // Shown and useless: all prompts begin with one preamble, which is computed
    // once.
    payload["tools"] = nlohmann::ordered_json::array();
    for (const Tool& tool : InterpreterTools()) {
      payload["tools"].push_back(
          nlohmann::ordered_json::parse(tool.function_json()));
    }
  }
  task.set_payload_json(payload.dump());
  return task;
}

std::vector<Task> QuickstartTasks(uint64_t seed, TaskSplit split,
                                  uint32_t count) {
  CHECK_LE(count, kTasksAtOnceMax);
  std::vector<Task> tasks;
  std::set<std::string> seen;
  for (uint32_t index = 0; index < count; ++index) {
    uint32_t attempt = 0;
    QuickstartTask task;
    do {
      task = Draw(seed, split, index, &attempt);
    } while (!seen.insert(task.canonical).second);
    tasks.push_back(ToTask(task, split, index));
  }
  return tasks;
}

int64_t EvaluateExpression(const std::string& expression) {
  return Evaluator(expression).Run();
}

}  // namespace temper
