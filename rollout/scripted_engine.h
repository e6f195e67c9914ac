// An engine for tests of episodes: it samples what it was told to.
//
// Not thread-safe.

#ifndef ROLLOUT_SCRIPTED_ENGINE_H_
#define ROLLOUT_SCRIPTED_ENGINE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/model/config.h"
#include "kernels/model/tokenizer.h"
#include "rollout/sequence_engine.h"

namespace temper {

// One text a turn, by (sample, turn). The tokenizer outlives it.
class ScriptedEngine : public SequenceEngine {
 public:
  explicit ScriptedEngine(const Tokenizer* tokenizer) : tokenizer_(tokenizer) {
    config_.num_hidden_layers = 1;
    config_.n_routed_experts = 4;
    config_.num_experts_per_tok = 1;
  }

  void Play(uint32_t sample, const std::vector<std::string>& turns) {
    for (const std::string& text : turns) {
      turns_[sample].push_back(*tokenizer_->Encode(text, SpecialMatching::kOn));
    }
  }

  absl::StatusOr<int64_t> Open(const SequenceOptions& options) override {
    open_[++last_id_].options = options;
    return last_id_;
  }
  absl::Status Extend(int64_t id, const std::vector<int32_t>& tokens,
                      int64_t sample_max) override {
    Sequence& s = open_.at(id);
    if (s.record.size() + static_cast<int64_t>(tokens.size()) >= capacity) {
      return absl::ResourceExhaustedError("full");
    }
    s.record.tokens.insert(s.record.tokens.end(), tokens.begin(), tokens.end());
    s.record.sampled.resize(s.record.tokens.size(), 0);
    s.running = true;
    s.tokens_left = sample_max;
    return absl::OkStatus();
  }
  absl::Status Stop(int64_t id) override {
    open_.at(id).running = false;
    return absl::OkStatus();
  }
  void Close(int64_t id) override { open_.erase(id); }
  absl::StatusOr<std::vector<StoppedSequence>> Step() override {
    std::vector<StoppedSequence> stopped;
    for (auto& [id, s] : open_) {
      if (!s.running) continue;
      s.running = false;
      const uint32_t sample = s.options.key.sample;
      const std::vector<int32_t>& turn = turns_[sample].at(played_[sample]++);
      const size_t count =
          std::min(turn.size(), static_cast<size_t>(s.tokens_left));
      for (size_t i = 0; i < count; ++i) {
        s.record.tokens.push_back(turn[i]);
        s.record.sampled.push_back(1);
        s.record.logprobs.push_back(-1);
        s.record.kept_offsets.push_back(0);
        s.record.versions.push_back(1);
      }
      s.record.routes.resize(s.record.tokens.size() - 1, 2);
      s.record.route_versions.resize(s.record.tokens.size() - 1, 1);
      stopped.push_back({id, count == turn.size() ? StopReason::kStopToken
                                                  : StopReason::kLength});
    }
    return stopped;
  }
  const SequenceRecord& record(int64_t id) const override {
    return open_.at(id).record;
  }
  bool has_running() const override {
    return std::any_of(open_.begin(), open_.end(),
                       [](const auto& entry) { return entry.second.running; });
  }
  const ModelConfig& config() const override { return config_; }
  size_t open() const { return open_.size(); }

  int64_t capacity = 100000;

 private:
  const Tokenizer* const tokenizer_;
  ModelConfig config_;
  int64_t last_id_ = 0;
  std::map<int64_t, Sequence> open_;
  std::map<uint32_t, std::vector<std::vector<int32_t>>> turns_;
  std::map<uint32_t, size_t> played_;
};

}  // namespace temper

#endif  // ROLLOUT_SCRIPTED_ENGINE_H_
