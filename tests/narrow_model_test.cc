// A whole model in bf16 or FP8 against what it stands for: its gradients
// against a double-precision backward of the same forward, its logits against
// the fp32 goldens. Selected keys and routes are given: a choice between two
// near ties may fall otherwise in bf16, and is then another model's number.

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "kernels/base/float_mode.h"
#include "kernels/base/log.h"
#include "kernels/base/rng.h"
#include "kernels/find_backend.h"
#include "kernels/model/test_model.h"
#include "kernels/model/transformer.h"
#include "kernels/ops/testing/forwarding_backend.h"
#include "learner/train/device_array.h"
#include "learner/train/token_logprob.h"
#include "tests/exact_backward_backend.h"
#include "tests/golden_batches.h"
#include "tests/golden_file.h"
#include "tests/golden_inputs.h"
#include "tests/trial_model.h"

namespace temper {
namespace {

// Operands that keep 8 bits are off by at most 2^-9 each, 2^-9 / sqrt(3) root
// mean square; a gradient passes about 10 roundings a layer. 2e-2 is 18 of the
// first: five layers' worth if none cancelled.
constexpr double kRelativeMax = 2e-2;

double RelativeError(const std::vector<float>& got,
                     const std::vector<double>& want) {
  double error = 0, size = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    error += (got[i] - want[i]) * (got[i] - want[i]);
    size += want[i] * want[i];
  }
  return size == 0 ? std::sqrt(error) : std::sqrt(error / size);
}

using Gradients = std::map<std::string, std::vector<float>>;

// Of a loss over every token of a sequence, the indexer's included, after one
// forward in `numerics`: the model's own backward, and the exact one.
class GradientTrial {
 public:
  GradientTrial(const TrialModel& model, const std::vector<int32_t>& tokens,
                const Numerics& numerics)
      : inner_(*FindBackend({})),
        backend_(inner_.get()),
        weights_(PublishedOf(&backend_, model.config, model.values,
                             Passes::kForwardAndBackward, numerics)),
        packed_(NextTokens(model.config, tokens)),
        logprob_(&backend_) {
    const int64_t n = packed_.batch.size();
    model_ = *Transformer::Create(&backend_, weights_.get(), n);
    tape_ = *model_->NewTape(n);
    gradients_ = *ModelGradients::Create(&backend_, model.config);
    Tensor hidden;
    absl::Status status =
        model_->Forward(&packed_.batch, nullptr, tape_.get(), {}, &hidden);
    CHECK(status.ok()) << status;
    status.Update(logprob_
                      .Forward(*weights_, hidden, packed_, /*temperature=*/0.9,
                               /*keep_sampling_mask=*/false)
                      .status());
    CHECK(status.ok()) << status;
  }

  ExactBackwardBackend& backend() { return backend_; }

  Gradients Backward(bool exact) {
    using Phase = ExactBackwardBackend::Phase;
    backend_.set_phase(exact ? Phase::kExactBackward : Phase::kBackward);
    gradients_->Zero();
    std::vector<float> dlogp, dkl;
    for (size_t i = 0; i < packed_.sampled.size(); ++i) {
      dlogp.push_back(static_cast<float>(
          Normal({.seed = 3, .ordinal = static_cast<uint32_t>(i)})));
    }
    dkl.assign(packed_.batch.size(), 1);
    const auto dhidden = logprob_.Backward(*weights_, dlogp, gradients_.get());
    CHECK(dhidden.ok()) << dhidden.status();
    model_->Backward(tape_.get(), *dhidden, gradients_.get());
    std::vector<std::vector<float>> kl;
    const absl::Status status =
        model_->IndexerLoss(tape_.get(), dkl, &kl, gradients_.get());
    CHECK(status.ok()) << status;
    Gradients all;
    for (const Parameter& p : weights_->parameters()) {
      if (p.group == ParameterGroup::kBias) continue;
      all[p.name] = *Download(&backend_, gradients_->grad(p));
    }
    return all;
  }

 private:
  std::unique_ptr<Backend> inner_;
  ExactBackwardBackend backend_;
  std::unique_ptr<PublishedWeights> weights_;
  PackedBatch packed_;
  TokenLogProb logprob_;
  std::unique_ptr<Transformer> model_;
  std::unique_ptr<Tape> tape_;
  std::unique_ptr<ModelGradients> gradients_;
};

double WorstOf(const Gradients& got, const Gradients& want,
               std::string* worst) {
  double largest = -1;
  for (const auto& [name, gradient] : want) {
    const double error =
        RelativeError(got.at(name), {gradient.begin(), gradient.end()});
    if (error > largest) {
      largest = error;
      *worst = name;
    }
  }
  return largest;
}

TEST(NarrowModelTest, GradientsAreThoseOfABackwardInDouble) {
  SetFlushDenormals();
  for (const TrialModel& model : {TinyTrialModel(), GoldenCTrialModel()}) {
    for (const Numerics& numerics : {kBf16, kFp8}) {
      GradientTrial trial(model, RandomTokens(model.config, 17, 80), numerics);
      const Gradients got = trial.Backward(/*exact=*/false);
      const Gradients want = trial.Backward(/*exact=*/true);
      std::string name;
      const double worst = WorstOf(got, want, &name);
      const std::string what = model.name + "_" + NameOf(numerics);
      EXPECT_LE(worst, kRelativeMax) << what << ": " << name;
      EXPECT_GT(worst, 1e-4) << "nothing was rounded";
      RecordProperty(what + "_worst", absl::StrCat(worst, " ", name));
      // And it would be seen if one gradient of an attention were 5 % too
      // large.
      trial.backend().set_spoiled_by(1.05);
      EXPECT_GT(WorstOf(got, trial.Backward(/*exact=*/true), &name),
                kRelativeMax);
    }
  }
}

// Selects the keys that it was given, a list a call.
class GivenSelections : public ForwardingBackend {
 public:
  GivenSelections(Backend* inner, const GoldenTensor& selections)
      : ForwardingBackend(inner), selections_(selections) {}

  void IndexerSelect(const IndexerSelectArgs& args) override {
    const int64_t count = args.selected.elements();
    CHECK_EQ(count, selections_.shape[1] * selections_.shape[2]);
    for (int64_t i = 0; i < count; ++i) {
      args.selected.as<int32_t>()[i] =
          static_cast<int32_t>(selections_.values[layer_ * count + i]);
    }
    ++layer_;
  }

 private:
  const GoldenTensor& selections_;
  int64_t layer_ = 0;
};

// The goldens' routes of a sequence, as its batch has them.
void GiveRoutes(const ModelConfig& config, const GoldenTensor& given,
                TokenBatch* batch) {
  const int64_t n = batch->size(), chosen = config.num_experts_per_tok;
  for (int64_t m = 0; m < config.moe_layers(); ++m) {
    for (int64_t i = 0; i < n; ++i) {
      const auto from = given.values.begin() + (m * n + i) * chosen;
      const auto to =
          batch->routes.begin() + (i * config.moe_layers() + m) * chosen;
      std::copy(from, from + chosen, to);
      std::sort(to, to + chosen);  // the goldens have them by their gates
    }
  }
}

// The relative error of sequence `index`.
double LogitsError(const std::string& dir, const ModelConfig& config,
                   const GoldenTensors& golden, size_t index,
                   const std::vector<int32_t>& tokens) {
  const std::string sequence = absl::StrCat("seq", index, "/");
  const auto inner = *FindBackend({});
  GivenSelections backend(inner.get(), golden.at(sequence + "topk"));
  const auto weights = *PublishedWeights::Load(
      &backend, config, kBf16, Passes::kForwardAndBackward, dir);
  TokenBatch batch = OneSequence(config, tokens);
  GiveRoutes(config, golden.at(sequence + "routes"), &batch);
  const int64_t n = batch.size();
  const auto model = *Transformer::Create(&backend, weights.get(), n);
  const auto tape = *model->NewTape(n);
  Tensor hidden;
  const absl::Status status =
      model->Forward(&batch, nullptr, tape.get(), {}, &hidden);
  CHECK(status.ok()) << status;
  DeviceArray array(&backend);
  const Tensor logits = *array.Reserve(DType::kF32, {n, config.vocab_size});
  backend.Linear(hidden, weights->lm_head(), Use::kForward, logits);
  return RelativeError(*Download(&backend, logits),
                       golden.at(sequence + "logits").values);
}

TEST(NarrowModelTest, LogitsAreThoseOfTheFp32GoldensWhereChoicesAreGiven) {
  SetFlushDenormals();
  for (const char* name : {"A", "B", "C"}) {
    const std::string dir = absl::StrCat("tests/golden/model/", name);
    const GoldenTensors golden = *ReadGoldenFile(dir + "/golden.safetensors");
    const ModelConfig config = *ReadModelConfig(dir);
    const GoldenInputs inputs = *ReadGoldenInputs(dir, config);
    for (size_t i = 0; i < inputs.lm_tokens.size(); ++i) {
      const double error =
          LogitsError(dir, config, golden, i, inputs.lm_tokens[i]);
      EXPECT_LE(error, kRelativeMax) << name << " " << i;
      EXPECT_GT(error, 1e-4) << "nothing was rounded";
      RecordProperty(absl::StrCat(name, "_", i), absl::StrCat(error));
    }
  }
}

}  // namespace
}  // namespace temper
