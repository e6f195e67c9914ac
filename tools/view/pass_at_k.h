// pass@k of tasks with n samples each, c of them right: the unbiased estimate
// 1 - C(n - c, k) / C(n, k), averaged over tasks, with the standard error of
// that average over tasks.
//
// Functions without state; thread-safe.

#ifndef TOOLS_VIEW_PASS_AT_K_H_
#define TOOLS_VIEW_PASS_AT_K_H_

#include <cstdint>
#include <vector>

namespace temper {

struct TaskScore {
  int64_t samples = 0;
  int64_t correct = 0;
};

struct PassRate {
  double mean = 0;
  double standard_error = 0;
  int64_t tasks = 0;  // those with at least k samples
};

// Of one task. `score.samples` >= k >= 1 (CHECKed).
double PassAtK(const TaskScore& score, int64_t k);

// The k that `samples` >= 1 (CHECKed) samples a task are reported at: the
// powers of two below it, and itself.
std::vector<int64_t> ReportedK(int64_t samples);

// Over tasks; those with fewer than k samples are left out.
PassRate MeanPassAtK(const std::vector<TaskScore>& scores, int64_t k);

}  // namespace temper

#endif  // TOOLS_VIEW_PASS_AT_K_H_
