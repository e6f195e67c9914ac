#include "tools/view/pass_at_k.h"

#include <cmath>

#include "kernels/base/log.h"

namespace temper {

double PassAtK(const TaskScore& score, int64_t k) {
  CHECK(k >= 1 && k <= score.samples) << k << " of " << score.samples;
  // C(n - c, k) / C(n, k) as a product, which stays in range.
  double all_wrong = 1;
  for (int64_t i = 0; i < k; ++i) {
    const int64_t wrong = score.samples - score.correct - i;
    if (wrong <= 0) return 1;
    all_wrong *=
        static_cast<double>(wrong) / static_cast<double>(score.samples - i);
  }
  return 1 - all_wrong;
}

std::vector<int64_t> ReportedK(int64_t samples) {
  CHECK(samples >= 1) << samples;
  std::vector<int64_t> reported;
  for (int64_t k = 1; k < samples; k *= 2) reported.push_back(k);
  reported.push_back(samples);
  return reported;
}

PassRate MeanPassAtK(const std::vector<TaskScore>& scores, int64_t k) {
  PassRate rate;
  double sum = 0;
  double squares = 0;
  for (const TaskScore& score : scores) {
    if (score.samples < k) continue;
    const double pass = PassAtK(score, k);
    sum += pass;
    squares += pass * pass;
    ++rate.tasks;
  }
  if (rate.tasks == 0) return rate;
  const double n = static_cast<double>(rate.tasks);
  rate.mean = sum / n;
  const double variance = squares / n - rate.mean * rate.mean;
  rate.standard_error = std::sqrt(variance > 0 ? variance / n : 0);
  return rate;
}

}  // namespace temper
