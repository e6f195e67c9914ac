#include "learner/train/batch_metrics.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "proto/wire/outcome.h"

namespace temper {
namespace {

// Sums under names, printed as means or as they are.
class Means {
 public:
  void Add(const std::string& name, double value) {
    Sum& sum = sums_[name];
    sum.total += value;
    sum.largest = sum.count == 0 ? value : std::max(sum.largest, value);
    ++sum.count;
    // Welford's: equal values deviate by exactly 0, and a large mean hides no
    // small deviation.
    const double delta = value - sum.centre;
    sum.centre += delta / sum.count;
    sum.squares += delta * (value - sum.centre);
  }
  void WriteMean(const std::string& name, const std::string& as,
                 std::vector<MetricValue>* out) const {
    const auto it = sums_.find(name);
    out->push_back(
        {as, it == sums_.end()
                 ? std::nullopt
                 : std::optional<double>(it->second.total / it->second.count)});
  }
  void WriteMax(const std::string& name, const std::string& as,
                std::vector<MetricValue>* out) const {
    const auto it = sums_.find(name);
    if (it != sums_.end()) out->push_back({as, it->second.largest});
  }
  double Deviation(const std::string& name) const {
    const Sum& sum = sums_.at(name);
    return std::sqrt(sum.squares / sum.count);
  }
  // Every name that begins with `prefix`, as its mean under name + `suffix`.
  void WriteAll(const std::string& prefix, const std::string& suffix,
                std::vector<MetricValue>* out) const {
    for (auto it = sums_.lower_bound(prefix);
         it != sums_.end() && it->first.rfind(prefix, 0) == 0; ++it) {
      out->push_back({it->first + suffix, it->second.total / it->second.count});
    }
  }

 private:
  struct Sum {
    double total = 0, largest = 0, count = 0;
    double centre = 0, squares = 0;  // the mean, and what deviates from it
  };
  std::map<std::string, Sum> sums_;
};

// Of the tokens whose sampling was truncated; an empty row is the whole
// vocabulary and has no size.
void AddMaskSizes(const Episode& episode, Means* means) {
  for (const EpisodeBranch& branch : episode.branches) {
    const std::vector<int32_t>& offsets = branch.kept_offsets;
    for (size_t row = 0; row + 1 < offsets.size(); ++row) {
      const int32_t size = offsets[row + 1] - offsets[row];
      if (size > 0) means->Add("mask", size);
    }
  }
}

}  // namespace

std::vector<MetricValue> BatchMetrics(const std::vector<Episode>& batch) {
  Means means;
  std::map<uint64_t, std::pair<double, double>> group_range;
  for (const Episode& e : batch) {
    means.Add("reward", e.reward);
    means.Add(absl::StrCat("reward/", e.environment), e.reward);
    for (const RewardPart& part : e.reward_parts) {
      means.Add(absl::StrCat("rewards/", part.name()), part.value());
    }
    means.Add("length", static_cast<double>(e.SampledTokens()));
    means.Add("turns", e.assistant_turns);
    means.Add("environment", static_cast<double>(e.environment_us) * 1e-6);
    means.Add("scoring", static_cast<double>(e.reward_us) * 1e-6);
    AddMaskSizes(e, &means);
    // A group whose rewards are all equal has advantages of 0 and teaches
    // nothing.
    const auto [it, first] =
        group_range.try_emplace(e.group, std::pair(e.reward, e.reward));
    it->second.first = std::min(it->second.first, e.reward);
    it->second.second = std::max(it->second.second, e.reward);
  }
  std::vector<MetricValue> out;
  if (batch.empty()) return out;
  means.WriteMean("reward", "reward/mean", &out);
  out.push_back({"reward/std", means.Deviation("reward")});
  means.WriteAll("reward/", "/mean", &out);
  means.WriteAll("rewards/", "/mean", &out);
  double flat = 0;
  for (const auto& [group, range] : group_range) {
    flat += range.first == range.second;
  }
  out.push_back(
      {"frac_reward_zero_std", flat / static_cast<double>(group_range.size())});
  means.WriteMean("length", "response_length/mean", &out);
  means.WriteMax("length", "response_length/max", &out);
  means.WriteMean("turns", "num_turns/mean", &out);
  means.WriteMean("environment", "time/environment", &out);
  means.WriteMean("scoring", "time/reward", &out);
  means.WriteMean("mask", "sampling_mask/mean_size", &out);
  std::map<std::string, double> outcomes;
  for (const Episode& e : batch) {
    ++outcomes[absl::AsciiStrToLower(OutcomeName(e.outcome))];
  }
  for (const auto& [name, count] : outcomes) {
    out.push_back({absl::StrCat("outcome/", name),
                   count / static_cast<double>(batch.size())});
  }
  return out;
}

std::vector<MetricValue> EvalMetrics(
    const std::vector<EvaluatedSample>& batch) {
  struct Counts {
    double episodes = 0, correct = 0, well_formed = 0, reward = 0;
  };
  std::map<std::string, Counts> environments;
  for (const EvaluatedSample& sample : batch) {
    Counts& counts = environments[sample.environment];
    ++counts.episodes;
    counts.correct += sample.correct;
    counts.well_formed += IsWellFormed(sample.outcome);
    counts.reward += sample.reward;
  }
  std::vector<MetricValue> out;
  for (const auto& [name, counts] : environments) {
    const std::string prefix = absl::StrCat("eval/", name, "/");
    out.push_back({prefix + "episodes", counts.episodes});
    out.push_back({prefix + "correct", counts.correct});
    out.push_back({prefix + "well_formed", counts.well_formed});
    out.push_back({prefix + "reward_mean", counts.reward / counts.episodes});
  }
  return out;
}

}  // namespace temper
