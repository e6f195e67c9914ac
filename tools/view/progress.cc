#include "tools/view/progress.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "kernels/base/log.h"
#include "kernels/base/shown_text.h"
#include "kernels/base/utf8.h"

namespace temper {
namespace {

constexpr size_t kRecentSteps = 8;

std::string Number(const std::optional<double>& value, int digits) {
  if (!value.has_value()) return "-";
  return absl::StrFormat("%.*g", digits, *value);
}

std::string Fixed(const std::optional<double>& value, int decimals) {
  if (!value.has_value()) return "-";
  return absl::StrFormat("%.*f", decimals, *value);
}

// The standard error of a share p of n.
double ShareError(double p, double n) {
  // Of a binomial share; 0 at p of 0 and 1, where FormatBeforeAfter says
  // "exactly".
  return n > 0 ? std::sqrt(p * (1 - p) / n) : 0;
}

double Share(const EvalView& view) {
  return view.episodes == 0 ? 0
                            : static_cast<double>(view.correct) /
                                  static_cast<double>(view.episodes);
}

std::string ShareCell(const EvalView& view) {
  if (view.episodes == 0) return "-";
  const double p = Share(view);
  const double n = static_cast<double>(view.episodes);
  return absl::StrFormat("%.3f +- %.3f", p, ShareError(p, n));
}

std::string Shortened(const std::string& text, size_t chars_max) {
  if (text.size() <= chars_max) return text;
  const size_t head = Utf8Start(text, chars_max / 2);
  const size_t tail =
      Utf8Start(text, text.size() - (chars_max - chars_max / 2));
  return absl::StrCat(text.substr(0, head), " [... ", tail - head,
                      " bytes ...] ", text.substr(tail));
}

// "interpreter 0.50, math 0.75", of the metrics reward/{environment}/mean.
std::string RewardByEnvironment(const StepView& step) {
  const std::string begin = "reward/", end = "/mean";
  std::vector<std::string> parts;
  for (const auto& [name, value] : step.metrics) {
    if (name.size() <= begin.size() + end.size() ||
        name.compare(0, begin.size(), begin) != 0 ||
        name.compare(name.size() - end.size(), end.size(), end) != 0) {
      continue;
    }
    const std::string environment =
        name.substr(begin.size(), name.size() - begin.size() - end.size());
    parts.push_back(absl::StrCat(ShownLine(environment), " ", Fixed(value, 2)));
  }
  return absl::StrJoin(parts, ", ");
}

// Points of the curve: the mean reward of each bucket of measured steps.
std::vector<double> Buckets(const std::vector<StepView>& steps, int columns) {
  std::vector<double> rewards;
  for (const StepView& step : steps) {
    const std::optional<double> reward = step.Metric("reward/mean");
    if (reward.has_value()) rewards.push_back(*reward);
  }
  const size_t count =
      std::min(rewards.size(), static_cast<size_t>(std::max(columns, 1)));
  std::vector<double> points(count, 0);
  for (size_t i = 0; i < count; ++i) {
    // By position, so that each step is in exactly one bucket whatever the
    // remainder.
    const size_t begin = i * rewards.size() / count;
    const size_t end = (i + 1) * rewards.size() / count;
    for (size_t j = begin; j < end; ++j) points[i] += rewards[j];
    points[i] /= static_cast<double>(end - begin);
  }
  return points;
}

std::string WellFormedCell(const EvalView& view) {
  return absl::StrCat(view.well_formed, "/", view.episodes);
}

}  // namespace

std::string FormatPlan(
    const std::vector<std::pair<std::string, std::string>>& lines) {
  size_t width = 0;
  for (const auto& [label, text] : lines) width = std::max(width, label.size());
  std::string plan;
  for (const auto& [label, text] : lines) {
    absl::StrAppend(&plan, label, std::string(width - label.size() + 2, ' '),
                    ShownLine(text), "\n");
  }
  return plan;
}

std::string FormatStep(const StepView& step, int64_t steps_total,
                       std::optional<double> remaining_seconds) {
  const std::string by_environment = RewardByEnvironment(step);
  return absl::StrCat(
      absl::StrFormat("step %3d/%d", step.step, steps_total), "  reward ",
      Fixed(step.Metric("reward/mean"), 3),
      by_environment.empty() ? "" : absl::StrCat(" (", by_environment, ")"),
      "  kl ", Number(step.Metric("kl"), 3), "  mismatch ",
      Number(step.Metric("train_rollout_logprob_abs_diff/max"), 3), "  ",
      Fixed(step.Metric("tokens_per_second"), 0), " tokens/s  staleness ",
      Number(step.Metric("staleness/mean"), 3), "  eta ",
      FormatDuration(remaining_seconds), "\n");
}

std::optional<double> RemainingSeconds(const std::vector<StepView>& steps,
                                       int64_t steps_total) {
  if (steps.empty()) return std::nullopt;
  // The last few: steps grow longer and shorter with what the model writes.
  const size_t count = std::min(steps.size(), kRecentSteps);
  double seconds = 0;
  for (size_t i = steps.size() - count; i < steps.size(); ++i) {
    seconds += steps[i].seconds;
  }
  const int64_t left = std::max<int64_t>(0, steps_total - steps.back().step);
  return seconds / static_cast<double>(count) * static_cast<double>(left);
}

std::string DrawRewardCurve(const std::vector<StepView>& steps, int columns,
                            int rows) {
  const std::vector<double> points = Buckets(steps, columns);
  if (points.empty()) return "reward: no step was measured\n";
  CHECK(rows >= 2) << "rows " << rows;
  double low = *std::min_element(points.begin(), points.end());
  double high = *std::max_element(points.begin(), points.end());
  // A reward between 0 and 1 is drawn on that scale, so that a flat curve
  // looks flat.
  low = std::min(low, 0.0);
  high = std::max(high, 1.0);
  std::string curve = "reward\n";
  for (int row = rows - 1; row >= 0; --row) {
    const double top = low + (high - low) * row / (rows - 1);
    std::string line = absl::StrFormat("%7.2f |", top);
    for (const double point : points) {
      const int level = static_cast<int>(
          std::lround((point - low) / (high - low) * (rows - 1)));
      line += level == row ? '*' : ' ';
    }
    line.erase(line.find_last_not_of(' ') + 1);
    absl::StrAppend(&curve, line, "\n");
  }
  absl::StrAppend(&curve, "        +", std::string(points.size(), '-'),
                  "\n         step ", steps.front().step, " to ",
                  steps.back().step, "\n");
  return curve;
}

std::string FormatBeforeAfter(const std::vector<EvalView>& evaluations) {
  std::map<std::string, std::pair<EvalView, EvalView>> rows;
  for (const EvalView& view : evaluations) {
    const auto [it, is_new] =
        rows.try_emplace(view.environment, std::make_pair(view, view));
    if (is_new) continue;
    // Not taken as sorted: an environment may have its first evaluation later
    // than another.
    if (view.step < it->second.first.step) it->second.first = view;
    if (view.step > it->second.second.step) it->second.second = view;
  }
  if (rows.empty()) return "";
  std::string table = absl::StrFormat(
      "%-16s %8s  %-18s %-18s %-24s %s\n", "held-out pass@1", "tasks", "before",
      "after", "rise in standard errors", "well-formed");
  for (const auto& [name, pair] : rows) {
    const auto& [before, after] = pair;
    std::string rise = "-";
    std::string after_cell = "-";
    std::string well_formed = WellFormedCell(before);
    if (after.step > before.step) {
      after_cell = ShareCell(after);
      absl::StrAppend(&well_formed, " to ", WellFormedCell(after));
      const double error =
          std::hypot(ShareError(Share(before), double(before.episodes)),
                     ShareError(Share(after), double(after.episodes)));
      const double difference = Share(after) - Share(before);
      // Without an error there is nothing to divide by: all right, or all
      // wrong, both times.
      rise = error > 0 ? absl::StrFormat("%+.1f", difference / error)
                       : absl::StrFormat("%+.3f, exactly", difference);
    }
    absl::StrAppend(&table, absl::StrFormat("%-16s %8d  %-18s %-18s %-24s %s\n",
                                            ShownLine(name), before.episodes,
                                            ShareCell(before), after_cell, rise,
                                            well_formed));
  }
  return table;
}

std::string FormatFailedTask(const FailedTaskView& task) {
  return ShownLine(absl::StrCat("task ", task.task_id, " of ", task.environment,
                                ": ", task.reason));
}

std::string FormatFailedTasks(const std::vector<FailedTaskView>& tasks) {
  if (tasks.empty()) return "";
  std::string text =
      absl::StrCat("tasks that got no reward: ", tasks.size(), "\n");
  for (size_t i = 0; i < tasks.size() && i < kFailedTasksShown; ++i) {
    absl::StrAppend(&text, "  ", FormatFailedTask(tasks[i]), "\n");
  }
  if (tasks.size() > kFailedTasksShown) {
    absl::StrAppend(&text, "  and ", tasks.size() - kFailedTasksShown,
                    " more\n");
  }
  return text;
}

std::string FormatEpisode(const std::string& title, const EpisodeView& episode,
                          size_t chars_max) {
  std::string text =
      absl::StrCat("--- ", title, ": ", ShownLine(episode.task_id), " in ",
                   ShownLine(episode.environment), ", after ", episode.step,
                   " steps: ", episode.outcome,
                   episode.correct ? ", correct" : ", not correct", ", reward ",
                   Number(episode.reward, 4), "\n");
  for (const TurnView& turn : episode.turns) {
    const std::string role = ShownLine(turn.role);
    const std::vector<std::string> lines =
        absl::StrSplit(Shortened(turn.text, chars_max), '\n');
    for (size_t i = 0; i < lines.size(); ++i) {
      absl::StrAppend(&text, absl::StrFormat("%10s| ", i == 0 ? role : ""),
                      ShownLines(lines[i]), "\n");
    }
  }
  return text;
}

std::string FormatWait(const WaitView& wait, int64_t now_us) {
  const auto duration = [](int64_t ms) {
    return FormatDuration(static_cast<double>(ms) / 1e3);
  };
  const std::string limit =
      wait.deadline_ms > 0 ? absl::StrCat(" of ", duration(wait.deadline_ms))
                           : std::string(", without a limit of its own");
  const int64_t ago_ms = std::max<int64_t>(0, now_us - wait.reported_us) / 1000;
  return absl::StrFormat("  %-12s %-28s %s%s, reported %s ago\n",
                         ShownLine(wait.process), ShownLine(wait.name),
                         duration(wait.elapsed_ms), limit, duration(ago_ms));
}

std::string FormatCalls(const std::vector<CallView>& calls) {
  if (calls.empty()) return "";
  std::string text = absl::StrFormat(
      "%-16s %-6s %9s  %-32s  %s\n%35s%10s %10s %10s  %10s %10s %10s\n",
      "environment", "call", "calls", "waited for a thread, ms", "ran, ms", "",
      "p50", "p99", "most", "p50", "p99", "most");
  for (const CallView& view : calls) {
    absl::StrAppendFormat(&text, "%-16s %-6s %9d ", ShownLine(view.environment),
                          view.kind, view.calls);
    for (const CallTimes& times : {view.wait, view.run}) {
      for (const int64_t us : {times.p50_us, times.p99_us, times.max_us}) {
        absl::StrAppendFormat(&text, " %10.1f", static_cast<double>(us) / 1e3);
      }
      text += ' ';
    }
    text.back() = '\n';
  }
  return text;
}

std::string FormatDuration(std::optional<double> seconds) {
  if (!seconds.has_value()) return "-";
  const int64_t whole = std::llround(*seconds);
  if (whole < 60) return absl::StrCat(whole, "s");
  if (whole < 3600) {
    return absl::StrFormat("%dm%02ds", whole / 60, whole % 60);
  }
  return absl::StrFormat("%dh%02dm", whole / 3600, whole % 3600 / 60);
}

}  // namespace temper
