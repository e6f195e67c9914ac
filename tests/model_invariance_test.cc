// Zero mismatch at its root: a token's hidden state and log-probability are the
// same bits however its sequence is computed. The negative control, a product
// whose order of addition depends on the number of rows, is caught by the same
// comparison.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "kernels/base/float_mode.h"
#include "kernels/base/log.h"
#include "kernels/base/sanitized.h"
#include "kernels/find_backend.h"
#include "kernels/model/kv_cache.h"
#include "kernels/model/test_model.h"
#include "kernels/model/transformer.h"
#include "learner/train/device_array.h"
#include "tests/row_dependent_backend.h"
#include "tests/trial_model.h"

namespace temper {
namespace {

#ifdef TEMPER_WHOLE_MATRICES
constexpr bool kWhole = true;
#else
constexpr bool kWhole = false;  // in minutes less
#endif

constexpr int kSequences = kSanitized ? 9 : kWhole ? 64 : 33;
constexpr int64_t kTokensMax = 150 * kSequences;
constexpr int32_t kShared = 70;  // tokens that two neighbours have in common

// Lengths above index_topk, over two pages (C) or three.
std::vector<std::vector<int32_t>> MakeSequences(const ModelConfig& config) {
  std::vector<std::vector<int32_t>> sequences;
  const int32_t longest = static_cast<int32_t>(
      std::min<int64_t>(config.max_position_embeddings, 140));
  for (int s = 0; s < kSequences; ++s) {
    std::vector<int32_t> tokens =
        RandomTokens(config, 100 + s, longest - (s * 7) % 45);
    if (s % 2 == 1) {
      std::copy_n(sequences.back().begin(), kShared, tokens.begin());
    }
    sequences.push_back(std::move(tokens));
  }
  return sequences;
}

// [sequence][position * (D + 1)]: the hidden state, then log p(next token).
using Outputs = std::vector<std::vector<float>>;

class Runner {
 public:
  Runner(Backend* backend, const TrialModel& model)
      : backend_(backend),
        config_(model.config),
        sequences_(MakeSequences(model.config)),
        pages_each_(
            static_cast<int32_t>((model.config.max_position_embeddings < 140
                                      ? model.config.max_position_embeddings
                                      : 140) /
                                     kPageTokens +
                                 1)) {
    weights_ = WeightsOf(backend, model);
    transformer_ = *Transformer::Create(backend, weights_.get(), kTokensMax);
    cache_ = *KvCache::Create(backend, config_, weights_->numerics(),
                              kSequences * pages_each_);
  }

  // Training forwards, `together` sequences in a batch, all of them or the
  // first `count`; shared prefixes computed once or again.
  Outputs RunTape(int count, int together, bool share) {
    Outputs out(count);
    auto tape = *transformer_->NewTape(kTokensMax);
    for (int first = 0; first < count; first += together) {
      std::vector<TrainingSequence> batch;
      for (int s = first; s < std::min(count, first + together); ++s) {
        batch.push_back({sequences_[s]});
        if (share && s % 2 == 1 && s > first) {
          batch.back().parent = s - first - 1;
          batch.back().shared = kShared;
        }
      }
      TrainingBatch made = MakeTrainingBatch(config_, batch);
      Tensor hidden;
      const absl::Status status =
          transformer_->Forward(&made.batch, nullptr, tape.get(), {}, &hidden);
      CHECK(status.ok()) << status;
      std::vector<int32_t> targets(made.batch.size(), 0);
      // A shared row predicts one token for each sequence: compared is the
      // log-probability that all rows give to a function of the position.
      for (int64_t i = 0; i < made.batch.size(); ++i) {
        targets[i] = Target(made.batch.position[i]);
      }
      const std::vector<float> rows = RowOutputs(hidden, targets);
      for (size_t s = 0; s < batch.size(); ++s) {
        for (const int32_t row : made.rows[s]) {
          Append(rows, row, &out[first + s]);
        }
      }
    }
    return out;
  }

  // Sampling forwards: `active` sequences at a time, each by chunks of `chunk`
  // tokens (staggered by sequence), pages handed out from the last.
  Outputs RunCached(int count, int active, int32_t chunk) {
    Outputs out(count);
    for (int first = 0; first < count; first += active) {
      std::vector<int32_t> done(std::min(active, count - first), 0);
      for (bool more = true; more;) {
        TokenBatch batch = EmptyBatch(static_cast<int>(done.size()), first);
        std::vector<int> owner;
        more = false;
        for (size_t a = 0; a < done.size(); ++a) {
          const auto& tokens = sequences_[first + a];
          const int32_t length = static_cast<int32_t>(tokens.size());
          const int32_t step = chunk == 1 ? 1 : chunk + static_cast<int>(a) % 5;
          const int32_t end = std::min(length, done[a] + step);
          for (; done[a] < end; ++done[a]) {
            AddToken(tokens[done[a]], done[a], static_cast<int>(a), &batch);
            owner.push_back(first + static_cast<int>(a));
          }
          more = more || done[a] < length;
        }
        Collect(RunBatch(&batch), owner, &out);
      }
    }
    return out;
  }

  // Odd sequences read their neighbour's first page from the cache.
  Outputs RunPrefixHits(int count) {
    Outputs out(count);
    for (int s = 0; s < count; ++s) {
      TokenBatch batch = EmptyBatch(1, s);
      const bool hit = s % 2 == 1;
      if (hit) {
        batch.blocks[0] = EmptyBatch(1, s - 1).blocks[0];
        out[s].assign(out[s - 1].begin(),
                      out[s - 1].begin() + kPageTokens * Width());
      }
      std::vector<int> owner;
      for (int32_t p = hit ? kPageTokens : 0;
           p < static_cast<int32_t>(sequences_[s].size()); ++p) {
        AddToken(sequences_[s][p], p, 0, &batch);
        owner.push_back(s);
      }
      Collect(RunBatch(&batch), owner, &out);
    }
    return out;
  }

 private:
  int64_t Width() const { return config_.hidden_size + 1; }

  int32_t Target(int32_t position) const {
    return static_cast<int32_t>((position * 31) % config_.vocab_size);
  }

  TokenBatch EmptyBatch(int sequences, int first) const {
    TokenBatch batch;
    batch.blocks_max = pages_each_;
    for (int a = 0; a < sequences; ++a) {
      for (int32_t b = 0; b < pages_each_; ++b) {
        batch.blocks.push_back(kSequences * pages_each_ - 1 -
                               ((first + a) * pages_each_ + b));
      }
    }
    return batch;
  }

  void AddToken(int32_t token, int32_t position, int row,
                TokenBatch* batch) const {
    batch->tokens.push_back(token);
    batch->position.push_back(position);
    batch->sequence.push_back(row);
    const int32_t block =
        batch->blocks[row * batch->blocks_max + position / kPageTokens];
    batch->slot.push_back(block * kPageTokens + position % kPageTokens);
    batch->routes.insert(batch->routes.end(),
                         config_.moe_layers() * config_.num_experts_per_tok,
                         -1);
  }

  std::vector<float> RunBatch(TokenBatch* batch) {
    Tensor hidden;
    const absl::Status status =
        transformer_->Forward(batch, cache_.get(), nullptr, {}, &hidden);
    CHECK(status.ok()) << status;
    std::vector<int32_t> targets;
    for (const int32_t position : batch->position) {
      targets.push_back(Target(position));
    }
    return RowOutputs(hidden, targets);
  }

  // [N, D + 1]
  std::vector<float> RowOutputs(const Tensor& hidden,
                                const std::vector<int32_t>& targets) {
    const int64_t n = hidden.dim(0), d = config_.hidden_size;
    DeviceArray target_array(backend_), offset_array(backend_),
        kept_array(backend_), logp_array(backend_), lse_array(backend_),
        entropy_array(backend_);
    const Tensor logp = *logp_array.Reserve(DType::kF32, {n});
    backend_->LogProb(
        {.x = hidden,
         .w = &weights_->lm_head(),
         .targets = *target_array.Upload(targets),
         .kept_offsets = *offset_array.Upload(std::vector<int32_t>(n + 1, 0)),
         .kept_ids = *kept_array.Reserve(DType::kI32, {0}),
         .temperature = 0.85f,
         .logp = logp,
         .lse = *lse_array.Reserve(DType::kF32, {n}),
         .entropy = *entropy_array.Reserve(DType::kF32, {n})});
    const std::vector<float> logps = *Download(backend_, logp);
    const std::vector<float> states = *Download(backend_, hidden);
    std::vector<float> rows;
    for (int64_t i = 0; i < n; ++i) {
      rows.insert(rows.end(), states.begin() + i * d,
                  states.begin() + (i + 1) * d);
      rows.push_back(logps[i]);
    }
    return rows;
  }

  void Append(const std::vector<float>& rows, int64_t row,
              std::vector<float>* to) const {
    to->insert(to->end(), rows.begin() + row * Width(),
               rows.begin() + (row + 1) * Width());
  }

  void Collect(const std::vector<float>& rows, const std::vector<int>& owner,
               Outputs* out) const {
    for (size_t i = 0; i < owner.size(); ++i) {
      Append(rows, static_cast<int64_t>(i), &(*out)[owner[i]]);
    }
  }

  Backend* const backend_;
  const ModelConfig config_;
  const std::vector<std::vector<int32_t>> sequences_;
  const int32_t pages_each_;
  std::unique_ptr<PublishedWeights> weights_;
  std::unique_ptr<Transformer> transformer_;
  std::unique_ptr<KvCache> cache_;
};

// Empty if the first sequences of `got` are the bits of `want`.
std::string Difference(const Outputs& want, const Outputs& got) {
  for (size_t s = 0; s < got.size(); ++s) {
    if (want[s].size() != got[s].size()) return absl::StrCat("length of ", s);
    for (size_t i = 0; i < want[s].size(); ++i) {
      if (!std::isfinite(want[s][i])) return absl::StrCat("not finite in ", s);
      if (std::memcmp(&want[s][i], &got[s][i], sizeof(float)) != 0) {
        return absl::StrCat("sequence ", s, ", value ", i, ": ", want[s][i],
                            " and ", got[s][i]);
      }
    }
  }
  return "";
}

// Each way of computing the sequences, by its name: of all of them in the whole
// matrix, else of as many as show it.
std::map<std::string, std::function<Outputs()>> Ways(Runner* runner) {
  std::map<std::string, std::function<Outputs()>> ways;
  const auto all_or = [](int count) { return kWhole ? kSequences : count; };
  for (const int active : {1, 2, 3, 8, 33, 64}) {
    if (active > kSequences) continue;
    const int count = all_or(std::max(active, 8));
    ways[absl::StrCat("whole prefill of ", active)] = [=] {
      return runner->RunCached(count, active, 1000);
    };
    ways[absl::StrCat("chunked prefill of ", active)] = [=] {
      return runner->RunCached(count, active, 13);
    };
    if (!kWhole && active != 3 && active != 8) continue;
    ways[absl::StrCat("decode of ", active)] = [=] {
      return runner->RunCached(all_or(active), active, 1);
    };
    if (!kWhole && active != 8) continue;
    for (const bool share : {false, true}) {
      ways[absl::StrCat("training of ", active, " together",
                        share ? ", prefixes shared" : "")] = [=] {
        return runner->RunTape(std::min(all_or(16), kSequences), active, share);
      };
    }
  }
  ways["prefix hits"] = [=] { return runner->RunPrefixHits(all_or(8)); };
  return ways;
}

// The first way of computing the sequences that changes a bit, or empty.
std::string CompareAll(Runner* runner, const Outputs& want) {
  for (const auto& [name, way] : Ways(runner)) {
    const std::string difference = Difference(want, way());
    if (!difference.empty()) return absl::StrCat(name, ": ", difference);
  }
  return "";
}

class ModelInvarianceTest : public ::testing::Test {
 protected:
  void SetUp() override { SetFlushDenormals(); }

  // Every tier on 1 thread and 2; in bf16 and FP8, unless the matrix is to be
  // whole, on 2: the operations have its cases on each tier.
  void ExpectInvariant(TrialModel model) {
    for (const Numerics& numerics : {kFp32, kBf16, kFp8}) {
      model.numerics = numerics;
      auto plain = *FindBackend({.name = "scalar"});
      const Outputs want =
          Runner(plain.get(), model).RunTape(kSequences, 1, false);
      for (const std::string& name : BackendNames()) {
        for (const int threads : {1, 2}) {
          if (!kWhole && numerics != kFp32 && threads == 1) continue;
          auto backend = *FindBackend({.name = name, .threads = threads});
          Runner runner(backend.get(), model);
          EXPECT_EQ(CompareAll(&runner, want), "")
              << NameOf(numerics) << ", " << name << ", " << threads
              << " threads";
        }
      }
    }
  }
};

TEST_F(ModelInvarianceTest, TinyModelIsBitwiseTheSameHoweverItIsComputed) {
  ExpectInvariant(TinyTrialModel());
}

TEST_F(ModelInvarianceTest, GoldenModelCIsBitwiseTheSameHoweverItIsComputed) {
  ExpectInvariant(GoldenCTrialModel());
}

TEST_F(ModelInvarianceTest, AProductThatDependsOnTheNumberOfRowsIsCaught) {
  TrialModel model = TinyTrialModel();
  for (const Numerics& numerics : {kFp32, kBf16, kFp8}) {
    model.numerics = numerics;
    auto inner = *FindBackend({});
    RowDependentBackend broken(inner.get());
    Runner runner(&broken, model);
    const Outputs want = runner.RunTape(kSequences, 1, false);
    EXPECT_EQ(Difference(want, runner.RunTape(kSequences, 1, false)), "");
    EXPECT_NE(CompareAll(&runner, want), "") << NameOf(numerics);
  }
}

}  // namespace
}  // namespace temper
