// What `temper train` prints, as pure functions of what it knows: the resolved
// plan, a line per step, the reward curve, the table of before and after, an
// episode; and a wait, for `temper status`. Numbers that were not measured
// print as "-", never as 0.
//
// Functions without state; thread-safe. Text is UTF-8 without controls
// (kernels/base/shown_text.h) and ends in a newline.

#ifndef TOOLS_VIEW_PROGRESS_H_
#define TOOLS_VIEW_PROGRESS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "learner/store/run_reader.h"

namespace temper {

// "label   text" lines, labels padded to one width.
std::string FormatPlan(
    const std::vector<std::pair<std::string, std::string>>& lines);

// One line; `remaining_seconds` is the estimate until the last step.
std::string FormatStep(const StepView& step, int64_t steps_total,
                       std::optional<double> remaining_seconds);

// The mean of the last steps' times, times the steps left; none before the
// first step.
std::optional<double> RemainingSeconds(const std::vector<StepView>& steps,
                                       int64_t steps_total);

// The mean reward over steps, `rows` lines high and at most `columns` points
// wide: where there are more steps than columns, each point is a mean.
std::string DrawRewardCurve(const std::vector<StepView>& steps, int columns,
                            int rows);

// pass@1 of each environment with its standard error, first and last
// evaluation side by side, the rise in standard errors of the difference, and
// how many episodes were well-formed (proto/wire/outcome.h) then and now.
std::string FormatBeforeAfter(const std::vector<EvalView>& evaluations);

// "task ID of ENVIRONMENT: reason", on one line.
std::string FormatFailedTask(const FailedTaskView& task);

// How many tasks got no reward for an episode, and the first kFailedTasksShown
// of them with the reason; "" where there are none.
inline constexpr size_t kFailedTasksShown = 10;
std::string FormatFailedTasks(const std::vector<FailedTaskView>& tasks);

// The conversation; texts longer than `chars_max` are cut in the middle, with
// the number of bytes left out.
std::string FormatEpisode(const std::string& title, const EpisodeView& episode,
                          size_t chars_max);

// One line, at `now_us` of Unix time.
std::string FormatWait(const WaitView& wait, int64_t now_us);

// A table, a line each, in milliseconds; "" where there are none.
std::string FormatCalls(const std::vector<CallView>& calls);

// "2m05s"; "-" where nothing is known.
std::string FormatDuration(std::optional<double> seconds);

}  // namespace temper

#endif  // TOOLS_VIEW_PROGRESS_H_
