#include "learner/step_report.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/log.h"
#include "learner/train/batch_metrics.h"

namespace temper {
namespace {

double Seconds(int64_t begin_us, int64_t end_us) {
  return static_cast<double>(end_us - begin_us) * 1e-6;
}

void AddTimings(const StepTimes& times, StepRecord* record) {
  const double step_seconds = Seconds(times.started_us, times.trained_us);
  const std::pair<const char*, double> timings[] = {
      {"time/step", step_seconds},
      // Waiting is a part of generating: from where all is issued and the loop
      // is idle.
      {"time/generate", Seconds(times.started_us, times.generated_us)},
      {"time/wait", Seconds(times.waiting_us, times.generated_us)},
      {"time/train", Seconds(times.generated_us, times.trained_us)},
      {"time/weight_sync", times.sync_seconds},
      {"tokens_per_second",
       static_cast<double>(record->tokens) / step_seconds}};
  for (const auto& [name, value] : timings) {
    record->metrics.push_back({name, value});
  }
}

void AddTrained(const StepMetrics& trained, StepRecord* record) {
  for (const auto& [name, value] : trained.values) {
    record->metrics.push_back({name, value});
  }
  for (const char* name : kMayBeUnmeasured) {
    if (trained.values.count(name) > 0) continue;
    // A row without a value: readers tell it from a metric that there is not.
    record->metrics.push_back({name, std::nullopt});
  }
  record->metrics.push_back({"rows", static_cast<double>(trained.rows)});
  record->metrics.push_back(
      {"rows_unshared", static_cast<double>(trained.rows_unshared)});
}

void AddCounts(const BufferCounts& counts, StepRecord* record) {
  const std::pair<const char*, int64_t> dropped[] = {
      {"dropped_stale", counts.dropped_stale},
      {"dropped_rejected", counts.dropped_rejected},
      {"dropped_infrastructure", counts.dropped_infrastructure}};
  for (const auto& [name, count] : dropped) {
    record->metrics.push_back({name, static_cast<double>(count)});
  }
}

void AddStaleness(const std::vector<int64_t>& ages, StepRecord* record) {
  // A step without an episode is none.
  CHECK(!ages.empty());
  double total = 0, oldest = 0;
  for (const int64_t age : ages) {
    total += static_cast<double>(age);
    oldest = std::max(oldest, static_cast<double>(age));
  }
  record->metrics.push_back(
      {"staleness/mean", total / static_cast<double>(ages.size())});
  record->metrics.push_back({"staleness/max", oldest});
}

}  // namespace

StepRecord MakeStepRecord(int64_t step, uint64_t version,
                          const TrainBatch& batch, const StepMetrics& trained,
                          const StepTimes& times, const BufferCounts& counts) {
  StepRecord record;
  record.step = step;
  record.weight_version = version;
  record.started_us = times.started_unix_us;
  for (const Episode& episode : batch.episodes) {
    record.samples.push_back({episode.group, episode.sample});
    record.tokens += episode.SampledTokens();
  }
  for (const TrainedEpisode& one : trained.trained) {
    record.records.push_back(
        {{one.group, one.sample}, one.advantage, one.masked, one.logp});
  }
  record.metrics = BatchMetrics(batch.episodes);
  AddStaleness(batch.ages, &record);
  AddTrained(trained, &record);
  AddTimings(times, &record);
  AddCounts(counts, &record);
  return record;
}

std::vector<std::string> NullWhatIsNotFinite(StepRecord* record) {
  std::vector<std::string> found;
  for (MetricValue& metric : record->metrics) {
    if (!metric.value.has_value() || std::isfinite(*metric.value)) continue;
    found.push_back(absl::StrCat(metric.name, " is ", *metric.value));
    // Not left out: the name stays, and the event says what the value was.
    metric.value.reset();
  }
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace temper
