#include "tests/golden_values.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "kernels/model/master_weights.h"
#include "kernels/model/published_weights.h"
#include "kernels/model/safetensors.h"
#include "kernels/model/transformer.h"
#include "learner/train/device_array.h"
#include "learner/train/objective.h"
#include "learner/train/optimizer.h"
#include "learner/train/packer.h"
#include "learner/train/token_logprob.h"
#include "tests/golden_batches.h"
#include "tests/golden_inputs.h"

namespace temper {
namespace {

// What is changed of the objective, by the goldens' names.
struct Switch {
  std::string name;  // empty: none
  ObjectiveConfig objective = PaperObjective();
  double kl_coef = 0;
  bool live_routing = false;
  bool full_vocabulary = false;
  bool replayed_reference = false;
};

class Candidate {
 public:
  static absl::StatusOr<std::unique_ptr<Candidate>> Create(
      Backend* backend, const std::string& dir);

  absl::Status Run();
  GoldenTensors Take() { return std::move(out_); }

 private:
  explicit Candidate(Backend* backend) : backend_(backend), logprob_(backend) {}

  void Add(const std::string& name, const std::string& dtype,
           std::vector<int64_t> shape, std::vector<double> values);
  template <typename T>
  void AddF32(const std::string& name, std::vector<int64_t> shape,
              const std::vector<T>& values) {
    Add(name, "F32", std::move(shape), {values.begin(), values.end()});
  }
  void AddScalar(const std::string& name, double value) {
    Add(name, "F64", {1}, {value});
  }
  absl::Status AddLogits(const std::string& name, const Tensor& hidden);
  // grad_<what>/<parameter> for a group.
  absl::Status AddGradients(const std::string& what, ParameterGroup group);
  absl::StatusOr<double> GradientNorm(ParameterGroup group);

  absl::Status AddForward(int64_t s);
  absl::Status AddLm();
  absl::Status AddDsa(const std::string& name, bool dense);
  absl::StatusOr<double> LmGradients();
  absl::Status AddAdamW();
  absl::StatusOr<std::vector<std::vector<float>>> ReferenceLogProbs(
      const Switch& change);
  absl::Status AddGrpo(const Switch& change);
  void AddGrpoLosses(const Switch& change,
                     const std::vector<double>& advantages,
                     const std::vector<SequenceTerms>& terms,
                     const BatchLoss& loss);
  void AddGrpoTokens(const std::string& prefix, const PackedBatch& packed,
                     const ObjectiveSequence& sequence,
                     const SequenceTerms& terms);

  Backend* const backend_;
  ModelConfig config_;
  GoldenInputs inputs_;
  std::unique_ptr<MasterWeights> masters_, reference_masters_;
  std::unique_ptr<PublishedWeights> weights_, reference_weights_;
  std::unique_ptr<ModelGradients> gradients_;
  std::unique_ptr<Transformer> model_, reference_;
  std::unique_ptr<Tape> tape_, reference_tape_;
  TokenLogProb logprob_;
  GoldenTensors out_;
};

absl::StatusOr<std::unique_ptr<Candidate>> Candidate::Create(
    Backend* backend, const std::string& dir) {
  std::unique_ptr<Candidate> c(new Candidate(backend));
  ASSIGN_OR_RETURN(c->config_, ReadModelConfig(dir));
  ASSIGN_OR_RETURN(c->inputs_, ReadGoldenInputs(dir, c->config_));
  ASSIGN_OR_RETURN(c->masters_, MasterWeights::Load(backend, c->config_, dir));
  ASSIGN_OR_RETURN(c->reference_masters_,
                   MasterWeights::Load(backend, c->config_, dir));
  ASSIGN_OR_RETURN(const std::unique_ptr<Safetensors> overrides,
                   Safetensors::Open(dir + "/ref_overrides.safetensors"));
  for (const Parameter& parameter : c->masters_->parameters()) {
    const SafetensorsEntry* entry = overrides->Find(parameter.name);
    if (entry == nullptr) continue;
    ASSIGN_OR_RETURN(const std::vector<float> values, DecodeFloats(*entry));
    if (static_cast<int64_t>(values.size()) != parameter.elements) {
      return absl::InvalidArgumentError(
          absl::StrCat("ref_overrides.safetensors: ", parameter.name, " has ",
                       values.size(), " elements"));
    }
    RETURN_IF_ERROR(backend->CopyFromHost(
        values.data(), c->reference_masters_->value(parameter)));
  }
  ASSIGN_OR_RETURN(c->weights_,
                   PublishedWeights::Of(c->masters_.get(), kFp32,
                                        Passes::kForwardAndBackward));
  ASSIGN_OR_RETURN(c->reference_weights_,
                   PublishedWeights::Of(c->reference_masters_.get(), kFp32,
                                        Passes::kForward));
  size_t tokens_max = 1;
  for (const auto& tokens : c->inputs_.lm_tokens) {
    tokens_max = std::max(tokens_max, tokens.size());
  }
  for (const auto& sequence : c->inputs_.sequences) {
    tokens_max = std::max(tokens_max, sequence.tokens.size());
  }
  ASSIGN_OR_RETURN(c->gradients_, ModelGradients::Create(backend, c->config_));
  ASSIGN_OR_RETURN(c->model_,
                   Transformer::Create(backend, c->weights_.get(), tokens_max));
  ASSIGN_OR_RETURN(
      c->reference_,
      Transformer::Create(backend, c->reference_weights_.get(), tokens_max));
  ASSIGN_OR_RETURN(c->tape_, c->model_->NewTape(tokens_max));
  ASSIGN_OR_RETURN(c->reference_tape_, c->reference_->NewTape(tokens_max));
  return c;
}

void Candidate::Add(const std::string& name, const std::string& dtype,
                    std::vector<int64_t> shape, std::vector<double> values) {
  out_[name] = {dtype, std::move(shape), std::move(values)};
}

absl::Status Candidate::AddLogits(const std::string& name,
                                  const Tensor& hidden) {
  DeviceArray array(backend_);
  ASSIGN_OR_RETURN(
      const Tensor logits,
      array.Reserve(DType::kF32, {hidden.dim(0), config_.vocab_size}));
  backend_->Linear(hidden, weights_->lm_head(), Use::kForward, logits);
  ASSIGN_OR_RETURN(const std::vector<float> values, Download(backend_, logits));
  AddF32(name, {hidden.dim(0), config_.vocab_size}, values);
  return absl::OkStatus();
}

absl::Status Candidate::AddGradients(const std::string& what,
                                     ParameterGroup group) {
  for (const Parameter& parameter : weights_->parameters()) {
    if (parameter.group != group) continue;
    ASSIGN_OR_RETURN(const std::vector<float> values,
                     Download(backend_, gradients_->grad(parameter)));
    AddF32(absl::StrCat("grad_", what, "/", parameter.name), parameter.shape,
           values);
  }
  return absl::OkStatus();
}

absl::StatusOr<double> Candidate::GradientNorm(ParameterGroup group) {
  double sum = 0;
  for (const Parameter& parameter : weights_->parameters()) {
    if (parameter.group != group) continue;
    ASSIGN_OR_RETURN(const std::vector<float> values,
                     Download(backend_, gradients_->grad(parameter)));
    const double norm = Norm(values);
    sum += norm * norm;
  }
  return std::sqrt(sum);
}

absl::Status Candidate::AddForward(int64_t s) {
  const std::vector<int32_t>& tokens = inputs_.lm_tokens[s];
  const int64_t n = static_cast<int64_t>(tokens.size());
  const int64_t layers = config_.num_hidden_layers;
  const int64_t moe = config_.moe_layers();
  const int64_t chosen = config_.num_experts_per_tok;
  const std::string seq = absl::StrCat("seq", s, "/");
  PackedBatch packed = NextTokens(config_, tokens);
  std::vector<float> hidden, scores, gates;
  std::vector<int32_t> selected;
  DebugTaps taps;
  taps.hidden = &hidden;
  taps.index_scores = &scores;
  taps.selected = &selected;
  taps.gate_weights = &gates;
  taps.keys_max = n;
  ForwardOptions options;
  options.taps = &taps;
  Tensor final_hidden;
  RETURN_IF_ERROR(model_->Forward(&packed.batch, nullptr, tape_.get(), options,
                                  &final_hidden));
  RETURN_IF_ERROR(AddLogits(seq + "logits", final_hidden));
  ASSIGN_OR_RETURN(const TokenLogProbs logprobs,
                   logprob_.Forward(*weights_, final_hidden, packed, 1, false));
  AddF32(seq + "logprobs", {n - 1},
         std::vector<float>(logprobs.logp.begin(), logprobs.logp.end()));
  AddF32(seq + "hidden", {layers + 1, n, config_.hidden_size}, hidden);
  AddF32(seq + "index_scores", {layers, n, n}, scores);
  std::vector<double> padded(layers * n * config_.index_topk, -1);
  const int64_t width = taps.selected_width;
  for (int64_t row = 0; row < layers * n; ++row) {
    std::copy_n(selected.begin() + row * width, width,
                padded.begin() + row * config_.index_topk);
  }
  Add(seq + "topk", "I32", {layers, n, config_.index_topk}, padded);
  if (moe > 0) {
    Add(seq + "routes", "I32", {moe, n, chosen},
        ByLayer(packed.batch.routes, n, moe, chosen));
    AddF32(seq + "gate_weights", {moe, n, chosen}, gates);
  }
  return absl::OkStatus();
}

// Zeroes the gradients, then leaves those of the LM loss; returns the loss.
absl::StatusOr<double> Candidate::LmGradients() {
  gradients_->Zero();
  int64_t targets = 0;
  for (const auto& tokens : inputs_.lm_tokens) targets += tokens.size() - 1;
  double loss = 0;
  for (const auto& tokens : inputs_.lm_tokens) {
    PackedBatch packed = NextTokens(config_, tokens);
    Tensor hidden;
    RETURN_IF_ERROR(
        model_->Forward(&packed.batch, nullptr, tape_.get(), {}, &hidden));
    ASSIGN_OR_RETURN(const TokenLogProbs logprobs,
                     logprob_.Forward(*weights_, hidden, packed, 1, false));
    for (const float logp : logprobs.logp) loss -= logp;
    const std::vector<float> dlogp(packed.sampled.size(), -1.0f / targets);
    ASSIGN_OR_RETURN(const Tensor dhidden,
                     logprob_.Backward(*weights_, dlogp, gradients_.get()));
    model_->Backward(tape_.get(), dhidden, gradients_.get());
  }
  return loss / targets;
}

absl::Status Candidate::AddLm() {
  ASSIGN_OR_RETURN(const double loss, LmGradients());
  AddScalar("lm/loss_main", loss);
  if (config_.num_nextn_predict_layers == 0) {
    AddScalar("lm/loss_mtp", 0);
    AddScalar("lm/loss_total", loss);
  }
  ASSIGN_OR_RETURN(const double leak, GradientNorm(ParameterGroup::kIndexer));
  AddScalar("lm/indexer_grad_l2_main", leak);
  return AddGradients("lm", ParameterGroup::kMain);
}

absl::Status Candidate::AddDsa(const std::string& name, bool dense) {
  gradients_->Zero();
  const int64_t layers = config_.num_hidden_layers;
  int64_t rows = 0;
  for (const auto& tokens : inputs_.lm_tokens) rows += tokens.size();
  std::vector<double> loss(layers, 0);
  for (size_t s = 0; s < inputs_.lm_tokens.size(); ++s) {
    TokenBatch batch = OneSequence(config_, inputs_.lm_tokens[s]);
    const int64_t n = batch.size();
    ForwardOptions options;
    if (dense) options.index_topk = n;
    Tensor hidden;
    RETURN_IF_ERROR(
        model_->Forward(&batch, nullptr, tape_.get(), options, &hidden));
    const std::string seq = absl::StrCat(name, "/seq", s, "/");
    if (dense) RETURN_IF_ERROR(AddLogits(seq + "logits", hidden));
    std::vector<std::vector<float>> kl;
    RETURN_IF_ERROR(model_->IndexerLoss(tape_.get(),
                                        std::vector<float>(n, 1.0f / rows), &kl,
                                        gradients_.get()));
    std::vector<float> flat;
    for (int64_t l = 0; l < layers; ++l) {
      for (const float value : kl[l]) loss[l] += value / rows;
      flat.insert(flat.end(), kl[l].begin(), kl[l].end());
    }
    AddF32(seq + "kl", {layers, n}, flat);
  }
  if (config_.num_nextn_predict_layers == 0) {
    Add(name + "/loss_per_layer", "F64", {layers}, loss);
  }
  ASSIGN_OR_RETURN(const double leak, GradientNorm(ParameterGroup::kMain));
  AddScalar(name + "/main_grad_l2", leak);
  return AddGradients(name, ParameterGroup::kIndexer);
}

absl::Status Candidate::AddAdamW() {
  ASSIGN_OR_RETURN(const std::unique_ptr<Optimizer> optimizer,
                   Optimizer::Create(backend_, masters_.get(), weights_.get(),
                                     {ParameterGroup::kMain}));
  OptimizerConfig options = UsualOptimizer();
  options.set_learning_rate(inputs_.learning_rate);
  options.set_weight_decay(inputs_.weight_decay);
  options.set_beta1(inputs_.beta1);
  options.set_beta2(inputs_.beta2);
  options.set_adam_eps(inputs_.eps);
  options.set_grad_clip(inputs_.clip_norm);
  std::vector<double> losses, norms;
  for (int64_t step = 0; step < inputs_.adamw_steps; ++step) {
    ASSIGN_OR_RETURN(const double loss, LmGradients());
    losses.push_back(loss);
    ASSIGN_OR_RETURN(const double norm, optimizer->Step(options, *gradients_));
    norms.push_back(norm);
  }
  ASSIGN_OR_RETURN(const double last, LmGradients());
  losses.push_back(last);
  const int64_t count = static_cast<int64_t>(losses.size());
  Add("adamw/loss_main", "F64", {count}, losses);
  Add("adamw/loss_total", "F64", {count}, losses);
  Add("adamw/loss_mtp", "F64", {count}, std::vector<double>(count, 0));
  Add("adamw/grad_norms", "F64", {count - 1}, norms);
  for (const Parameter& parameter : weights_->parameters()) {
    if (parameter.group != ParameterGroup::kMain) continue;
    ASSIGN_OR_RETURN(const std::vector<float> values,
                     Download(backend_, weights_->value(parameter)));
    AddScalar("adamw/final_l2/" + parameter.name, Norm(values));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::vector<float>>> Candidate::ReferenceLogProbs(
    const Switch& change) {
  std::vector<std::vector<float>> logp;
  for (const GoldenGrpoSequence& sequence : inputs_.sequences) {
    PackedBatch packed = SampledTokens(config_, sequence);
    if (change.replayed_reference) packed.batch.routes = sequence.routes;
    Tensor hidden;
    RETURN_IF_ERROR(reference_->Forward(&packed.batch, nullptr,
                                        reference_tape_.get(), {}, &hidden));
    ASSIGN_OR_RETURN(
        TokenLogProbs logprobs,
        logprob_.Forward(*reference_weights_, hidden, packed,
                         inputs_.temperature, !change.full_vocabulary));
    logp.emplace_back(logprobs.logp.begin(), logprobs.logp.end());
  }
  return logp;
}

void Candidate::AddGrpoTokens(const std::string& prefix,
                              const PackedBatch& packed,
                              const ObjectiveSequence& sequence,
                              const SequenceTerms& terms) {
  const int64_t n = packed.batch.size();
  AddF32(prefix + "logp", {n}, AtPositions(packed, sequence.logp));
  AddF32(prefix + "logp_ref", {n}, AtPositions(packed, sequence.logp_ref));
  AddF32(prefix + "ratio", {n}, AtPositions(packed, terms.ratio));
  AddF32(prefix + "surrogate", {n}, AtPositions(packed, terms.surrogates));
  AddF32(prefix + "k3", {n}, AtPositions(packed, terms.k3));
  AddF32(prefix + "kl", {n}, AtPositions(packed, terms.kls));
  AddF32(prefix + "token_loss", {n}, AtPositions(packed, terms.token_loss));
}

void Candidate::AddGrpoLosses(const Switch& change,
                              const std::vector<double>& advantages,
                              const std::vector<SequenceTerms>& terms,
                              const BatchLoss& loss) {
  const int64_t n = static_cast<int64_t>(terms.size());
  if (change.name == "advantage_std") {
    AddScalar("grpo/loss_std", loss.loss);
    Add("grpo/advantages_std", "F64", {n}, advantages);
  }
  if (!change.name.empty()) return;
  if (change.replayed_reference) {
    AddScalar("grpo/loss_refreplay", loss.loss);
    return;
  }
  AddScalar("grpo/surrogate", loss.surrogate);
  AddScalar("grpo/kl", loss.kl);
  std::vector<double> drift, mask, losses;
  for (const SequenceTerms& term : terms) {
    drift.push_back(term.drift);
    mask.push_back(term.masked ? 0 : 1);
    losses.push_back(term.loss);
  }
  Add("grpo/advantages", "F64", {n}, advantages);
  Add("grpo/drift", "F64", {n}, drift);
  Add("grpo/opsm_mask", "F64", {n}, mask);
  Add("grpo/seq_loss", "F64", {n}, losses);
}

absl::Status Candidate::AddGrpo(const Switch& change) {
  ASSIGN_OR_RETURN(const auto logp_ref, ReferenceLogProbs(change));
  const bool plain = change.name.empty() && !change.replayed_reference;
  const std::string prefix =
      change.name.empty() ? "grpo" : "grpo_" + change.name;
  std::vector<double> rewards;
  std::vector<int64_t> groups;
  BatchShape shape;
  for (const GoldenGrpoSequence& sequence : inputs_.sequences) {
    rewards.push_back(sequence.reward);
    groups.push_back(sequence.group);
    ++shape.sequences;
    shape.tokens += SampledTokens(config_, sequence).sampled.size();
  }
  const std::vector<double> advantages =
      ComputeAdvantages(rewards, groups, change.objective.advantage_norm());
  gradients_->Zero();
  std::vector<SequenceTerms> terms;
  for (size_t i = 0; i < inputs_.sequences.size(); ++i) {
    PackedBatch packed = SampledTokens(config_, inputs_.sequences[i]);
    if (!change.live_routing) packed.batch.routes = inputs_.sequences[i].routes;
    Tensor hidden;
    RETURN_IF_ERROR(
        model_->Forward(&packed.batch, nullptr, tape_.get(), {}, &hidden));
    if (plain && i == 0) {
      RETURN_IF_ERROR(AddLogits("grpo/seq0/logits", hidden));
    }
    ASSIGN_OR_RETURN(
        TokenLogProbs logprobs,
        logprob_.Forward(*weights_, hidden, packed, inputs_.temperature,
                         !change.full_vocabulary));
    ObjectiveSequence sequence;
    sequence.advantage = advantages[i];
    sequence.kl_coef = change.kl_coef;
    sequence.logp.assign(logprobs.logp.begin(), logprobs.logp.end());
    sequence.logp_old = packed.logp_old;
    sequence.logp_ref = logp_ref[i];
    terms.push_back(ComputeSequence(change.objective, shape, sequence));
    ASSIGN_OR_RETURN(
        const Tensor dhidden,
        logprob_.Backward(*weights_, terms.back().dlogp, gradients_.get()));
    model_->Backward(tape_.get(), dhidden, gradients_.get());
    const std::string seq = absl::StrCat(prefix, "/seq", i, "/");
    if (plain) AddGrpoTokens(seq, packed, sequence, terms.back());
    if (change.replayed_reference) {
      AddF32(seq + "logp_ref_replay", {packed.batch.size()},
             AtPositions(packed, sequence.logp_ref));
    } else {
      AddF32(seq + "dlogp", {packed.batch.size()},
             AtPositions(packed, terms.back().dlogp));
    }
  }
  const BatchLoss loss = SumSequences(change.objective, shape, terms);
  AddGrpoLosses(change, advantages, terms, loss);
  if (change.replayed_reference) return absl::OkStatus();
  AddScalar(prefix + "/loss", loss.loss);
  if (plain) {
    ASSIGN_OR_RETURN(const double leak, GradientNorm(ParameterGroup::kIndexer));
    AddScalar("grpo/indexer_grad_l2", leak);
  }
  return AddGradients(prefix, ParameterGroup::kMain);
}

std::vector<Switch> AllSwitches(const GoldenInputs& inputs) {
  Switch plain;
  plain.objective.set_clip_ratio_low(inputs.clip_low);
  plain.objective.set_clip_ratio_high(inputs.clip_high);
  plain.objective.set_off_policy_mask_threshold(inputs.delta);
  plain.kl_coef = inputs.kl_coef;
  std::vector<Switch> all = {plain};
  const auto add = [&](const std::string& name) -> Switch& {
    all.push_back(plain);
    all.back().name = name;
    return all.back();
  };
  add("").replayed_reference = true;
  add("no_opsm").objective.set_off_policy_mask_threshold(
      std::numeric_limits<double>::infinity());
  add("kl_k3").objective.set_kl_estimator(ObjectiveConfig::k3);
  add("kl_k2").objective.set_kl_estimator(ObjectiveConfig::k2);
  add("kl_k1").objective.set_kl_estimator(ObjectiveConfig::k1);
  add("no_kl").kl_coef = 0;
  add("advantage_std").objective.set_advantage_norm(ObjectiveConfig::std);
  add("token_mean").objective.set_loss_aggregation(ObjectiveConfig::token_mean);
  add("live_routing").live_routing = true;
  add("full_vocabulary").full_vocabulary = true;
  return all;
}

absl::Status Candidate::Run() {
  for (size_t s = 0; s < inputs_.lm_tokens.size(); ++s) {
    RETURN_IF_ERROR(AddForward(static_cast<int64_t>(s)));
  }
  RETURN_IF_ERROR(AddLm());
  RETURN_IF_ERROR(AddDsa("dsa_dense", /*dense=*/true));
  RETURN_IF_ERROR(AddDsa("dsa_sparse", /*dense=*/false));
  for (const Switch& change : AllSwitches(inputs_)) {
    RETURN_IF_ERROR(AddGrpo(change));
  }
  // With MTP the goldens train its layer too. Last: it changes the weights.
  if (config_.num_nextn_predict_layers == 0) RETURN_IF_ERROR(AddAdamW());
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<GoldenTensors> ComputeGoldenValues(Backend* backend,
                                                  const std::string& dir) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Candidate> candidate,
                   Candidate::Create(backend, dir));
  RETURN_IF_ERROR(candidate->Run());
  return candidate->Take();
}

}  // namespace temper
