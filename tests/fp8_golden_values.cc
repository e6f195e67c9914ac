#include "tests/fp8_golden_values.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "kernels/model/transformer.h"
#include "kernels/ops/cache_rows.h"
#include "kernels/tensor/fp8.h"
#include "learner/train/device_array.h"
#include "learner/train/token_logprob.h"
#include "tests/given_backend.h"
#include "tests/golden_batches.h"
#include "tests/golden_inputs.h"

namespace temper {
namespace {

constexpr char kPrefix[] = "fp8/";

std::vector<float> Floats(const GoldenTensor& tensor) {
  return {tensor.values.begin(), tensor.values.end()};
}

GoldenTensor F32(std::vector<int64_t> shape, const std::vector<float>& x) {
  return {"F32", std::move(shape), {x.begin(), x.end()}};
}

// Bytes have no type of their own in a candidate's file.
GoldenTensor Bytes(std::vector<int64_t> shape, const std::vector<uint8_t>& x) {
  return {"I32", std::move(shape), {x.begin(), x.end()}};
}

absl::StatusOr<GoldenTensors> ReadInputs(const std::string& dir) {
  ASSIGN_OR_RETURN(GoldenTensors all,
                   ReadGoldenFile(dir + "/golden.safetensors"));
  GoldenTensors inputs;
  for (const char* name :
       {"fp8/act/x", "fp8/weight/w", "fp8/index/q", "fp8/index/k",
        "fp8/index/w", "fp8/e4m3/in", "fp8/seq0/hidden"}) {
    const auto found = all.find(name);
    if (found == all.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat(dir, "/golden.safetensors has no ", name));
    }
    inputs[name] = found->second;
  }
  return inputs;
}

// Stage vectors, by single operations on the host's memory.
class Stages {
 public:
  Stages(Backend* backend, const GoldenTensors& in, GoldenTensors* out)
      : backend_(backend), in_(in), out_(*out) {}

  absl::Status Run() {
    std::vector<uint8_t> rounded;
    for (const float x : Floats(in_.at("fp8/e4m3/in"))) {
      rounded.push_back(E4M3FromFloat(x).bits);
    }
    out_["fp8/e4m3/out"] =
        Bytes({static_cast<int64_t>(rounded.size())}, rounded);
    RETURN_IF_ERROR(AddRows("act/x", "act/q", "act/scale"));
    RETURN_IF_ERROR(AddProduct());
    RETURN_IF_ERROR(AddRows("index/q", "index/q8", "index/q_scale"));
    RETURN_IF_ERROR(AddRows("index/k", "index/k8", "index/k_scale"));
    return AddScores();
  }

 private:
  // As the quantiser of rows leaves them in a cache of the indexer's: rows of a
  // block of 128 at a time.
  absl::Status AddRows(const std::string& x, const std::string& codes,
                       const std::string& scales) {
    const GoldenTensor& from = in_.at(kPrefix + x);
    std::vector<float> values = Floats(from);
    const int64_t rows = static_cast<int64_t>(values.size()) / kScaleBlock;
    std::vector<int32_t> slots;
    for (int64_t i = 0; i < rows; ++i) {
      slots.push_back(static_cast<int32_t>(i));
    }
    std::vector<float> latent(rows);
    std::vector<uint8_t> pages =
        std::vector<uint8_t>(IndexPages(rows) * IndexPageBytes(kScaleBlock));
    backend_->WriteKeys(
        {.latent = Tensor(latent.data(), DType::kF32, {rows, 1}),
         .index_keys = Tensor(values.data(), DType::kF32, {rows, kScaleBlock}),
         .slot = Tensor(slots.data(), DType::kI32, {rows}),
         .latent_strip = Tensor(latent.data(), DType::kF32, {rows, 1}),
         .index_strip = Pages(&pages, rows)});
    std::vector<uint8_t> bytes;
    std::vector<float> made(rows);
    for (int64_t i = 0; i < rows; ++i) {
      const uint8_t* const page =
          pages.data() + i / kIndexPageRows * IndexPageBytes(kScaleBlock);
      const int64_t row = i % kIndexPageRows;
      bytes.insert(bytes.end(), page + row * kScaleBlock,
                   page + (row + 1) * kScaleBlock);
      std::memcpy(&made[i],
                  page + kIndexPageRows * kScaleBlock + row * sizeof(float),
                  sizeof(float));
    }
    out_[kPrefix + codes] = Bytes(from.shape, bytes);
    std::vector<int64_t> shape = from.shape;
    shape.back() /= kScaleBlock;
    if (shape.back() == 1) shape.pop_back();
    out_[kPrefix + scales] = F32(shape, made);
    return backend_->Sync();
  }

  absl::Status AddProduct() {
    const GoldenTensor& w = in_.at("fp8/weight/w");
    const int64_t out = w.shape[0], in = w.shape[1];
    const int64_t rows = in_.at("fp8/act/x").shape[0];
    std::vector<float> values = Floats(w), x = Floats(in_.at("fp8/act/x"));
    std::vector<uint8_t> codes(out * in);
    std::vector<float> scales(ScaleBlocks(out) * ScaleBlocks(in));
    std::vector<float> y(rows * out);
    const Tensor code(codes.data(), DType::kF8E4M3, {1, out, in});
    const Tensor scale(scales.data(), DType::kF32,
                       {1, ScaleBlocks(out), ScaleBlocks(in)});
    backend_->QuantiseWeight(Tensor(values.data(), DType::kF32, {1, out, in}),
                             code, scale);
    ASSIGN_OR_RETURN(
        const auto weight,
        backend_->NewWeight({.out = out, .in = in, .dtype = DType::kF8E4M3}));
    backend_->SetQuantisedWeight(code, scale, weight.get());
    backend_->Linear(Tensor(x.data(), DType::kF32, {rows, in}), *weight,
                     Use::kForward, Tensor(y.data(), DType::kF32, {rows, out}));
    out_["fp8/weight/q"] = Bytes(w.shape, codes);
    out_["fp8/weight/scale_inv"] =
        F32({ScaleBlocks(out), ScaleBlocks(in)}, scales);
    out_["fp8/gemm/y"] = F32({rows, out}, y);
    return backend_->Sync();
  }

  // Of every query with every key.
  absl::Status AddScores() {
    const std::vector<int64_t>& shape = in_.at("fp8/index/q").shape;
    const int64_t n = shape[0], heads = shape[1], dims = shape[2];
    std::vector<float> q = Floats(in_.at("fp8/index/q"));
    std::vector<float> k = Floats(in_.at("fp8/index/k"));
    std::vector<float> w = Floats(in_.at("fp8/index/w"));
    std::vector<float> latent(n), scores(n * n);
    std::vector<int32_t> order, last(n, static_cast<int32_t>(n - 1));
    for (int32_t i = 0; i < n; ++i) order.push_back(i);
    std::vector<int32_t> zeros(n), selected(n);
    std::vector<uint8_t> pages(IndexPageBytes(dims));
    const Tensor slots(order.data(), DType::kI32, {n});
    const Tensor weights(w.data(), DType::kF32, {n, heads});
    backend_->Scale(
        static_cast<float>(1 / std::sqrt(static_cast<double>(heads * dims))),
        weights);
    backend_->WriteKeys(
        {.latent = Tensor(latent.data(), DType::kF32, {n, 1}),
         .index_keys = Tensor(k.data(), DType::kF32, {n, dims}),
         .slot = slots,
         .latent_strip = Tensor(latent.data(), DType::kF32, {n, 1}),
         .index_strip = Pages(&pages, n)});
    backend_->IndexerSelect(
        {.q = Tensor(q.data(), DType::kF32, {n, heads, dims}),
         .w = weights,
         .keys = Pages(&pages, n),
         .map = {.sequence = Tensor(zeros.data(), DType::kI32, {n}),
                 .position = Tensor(last.data(), DType::kI32, {n}),
                 .blocks = Tensor(order.data(), DType::kI32, {1, n}),
                 .page_tokens = 1},
         .selected = Tensor(selected.data(), DType::kI32, {n, 1}),
         .scores = Tensor(scores.data(), DType::kF32, {n, n})});
    out_["fp8/index/scores"] = F32({n, n}, scores);
    return backend_->Sync();
  }

  static Tensor Pages(std::vector<uint8_t>* bytes, int64_t rows) {
    const int64_t pages = IndexPages(rows);
    return Tensor(bytes->data(), DType::kF8E4M3,
                  {pages, static_cast<int64_t>(bytes->size()) / pages});
  }

  Backend* const backend_;
  const GoldenTensors& in_;
  GoldenTensors& out_;
};

// A model of a golden directory and what it has tapped of a forward.
class Fp8Model {
 public:
  static absl::StatusOr<std::unique_ptr<Fp8Model>> Create(
      Backend* backend, const std::string& dir, const Numerics& numerics) {
    std::unique_ptr<Fp8Model> m(new Fp8Model(backend));
    ASSIGN_OR_RETURN(m->config_, ReadModelConfig(dir));
    ASSIGN_OR_RETURN(m->inputs_, ReadGoldenInputs(dir, m->config_));
    ASSIGN_OR_RETURN(m->weights_,
                     PublishedWeights::Load(&m->backend_, m->config_, numerics,
                                            Passes::kForwardAndBackward, dir));
    m->backend_.Watch(*m->weights_);
    int64_t tokens = 1;
    for (const auto& list : m->inputs_.lm_tokens) {
      tokens = std::max<int64_t>(tokens, list.size());
    }
    for (const auto& sequence : m->inputs_.sequences) {
      tokens = std::max<int64_t>(tokens, sequence.tokens.size());
    }
    ASSIGN_OR_RETURN(m->model_, Transformer::Create(&m->backend_,
                                                    m->weights_.get(), tokens));
    ASSIGN_OR_RETURN(m->tape_, m->model_->NewTape(tokens));
    ASSIGN_OR_RETURN(m->gradients_,
                     ModelGradients::Create(&m->backend_, m->config_));
    return m;
  }

  GivenBackend& backend() { return backend_; }
  const ModelConfig& config() const { return config_; }

  // Of sequence s, with live choices.
  absl::Status AddLive(int64_t s, GoldenTensors* out) {
    backend_.Give({});
    PackedBatch packed = NextTokens(config_, inputs_.lm_tokens[s]);
    RETURN_IF_ERROR(Tap(&packed));
    const int64_t n = packed.batch.size();
    const std::string seq = absl::StrCat("fp8/seq", s, "/");
    DeviceArray array(&backend_);
    ASSIGN_OR_RETURN(const Tensor logits,
                     array.Reserve(DType::kF32, {n, config_.vocab_size}));
    backend_.Linear(final_, weights_->lm_head(), Use::kForward, logits);
    ASSIGN_OR_RETURN(const std::vector<float> values,
                     Download(&backend_, logits));
    (*out)[seq + "logits"] = F32({n, config_.vocab_size}, values);
    (*out)[seq + "index_scores"] = F32({layers(), n, n}, scores_);
    (*out)[seq + "topk"] = {"I32",
                            {layers(), n, config_.index_topk},
                            {selected_.begin(), selected_.end()}};
    (*out)[seq + "routes"] = {
        "I32",
        {config_.moe_layers(), n, config_.num_experts_per_tok},
        ByLayer(packed.batch.routes, n, config_.moe_layers(),
                config_.num_experts_per_tok)};
    if (s == 0) {  // without the embedding
      (*out)[seq + "hidden"] =
          F32({layers(), n, config_.hidden_size},
              {hidden_.begin() + n * config_.hidden_size, hidden_.end()});
    }
    return absl::OkStatus();
  }

  // Of sequence 0, each layer from the golden output of the one before it, the
  // first from the embedding as the file has it, whatever it is published in.
  absl::Status AddLayerwise(const std::string& dir, const GoldenTensor& hidden,
                            GoldenTensors* out) {
    PackedBatch packed = NextTokens(config_, inputs_.lm_tokens[0]);
    GivenBackend::Given given;
    given.inputs = LayerInputs(hidden, Last::kIsLeft);
    ASSIGN_OR_RETURN(const GoldenTensors file,
                     ReadGoldenFile(dir + "/model.safetensors"));
    const GoldenTensor& table = file.at("model.embed_tokens.weight");
    for (const int32_t token : inputs_.lm_tokens[0]) {
      const auto row = table.values.begin() + token * table.shape[1];
      given.inputs[0].insert(given.inputs[0].end(), row, row + table.shape[1]);
    }
    backend_.Give(std::move(given));
    RETURN_IF_ERROR(Tap(&packed));
    const int64_t n = packed.batch.size();
    (*out)["fp8/tf/hidden"] =
        F32({layers(), n, config_.hidden_size},
            {hidden_.begin() + n * config_.hidden_size, hidden_.end()});
    (*out)["fp8/tf/index_scores"] = F32({layers(), n, n}, scores_);
    return absl::OkStatus();
  }

  // Of both losses, at the values that fp8_grad_in gives.
  absl::Status AddGradients(const GoldenTensors& given, GoldenTensors* out) {
    gradients_->Zero();
    int64_t targets = 0;
    for (const auto& tokens : inputs_.lm_tokens) targets += tokens.size() - 1;
    for (size_t s = 0; s < inputs_.lm_tokens.size(); ++s) {
      PackedBatch packed = NextTokens(config_, inputs_.lm_tokens[s]);
      RETURN_IF_ERROR(
          GoBack(given, absl::StrCat("fp8_grad_in/lm/seq", s, "/"),
                 std::vector<float>(packed.sampled.size(), -1.0f / targets), 1,
                 false, &packed));
    }
    RETURN_IF_ERROR(TakeGradients("lm", out));
    gradients_->Zero();
    for (size_t s = 0; s < inputs_.sequences.size(); ++s) {
      PackedBatch packed = SampledTokens(config_, inputs_.sequences[s]);
      const std::string name = absl::StrCat("fp8_grad_in/grpo/seq", s, "/");
      const std::vector<float> at_tokens = Floats(given.at(name + "dlogp"));
      std::vector<float> dlogp;
      for (const auto& sampled : packed.sampled) {
        dlogp.push_back(at_tokens[sampled.row + 1]);
      }
      RETURN_IF_ERROR(
          GoBack(given, name, dlogp, inputs_.temperature, true, &packed));
    }
    return TakeGradients("grpo", out);
  }

 private:
  explicit Fp8Model(Backend* backend)
      : backend_(backend), logprob_(&backend_) {}

  int64_t layers() const { return config_.num_hidden_layers; }

  // From [L, T, D], outputs of the layers: inputs of those after the first, and
  // of model.norm, if that is to have the last.
  enum class Last : bool { kIsLeft, kIsGiven };
  std::vector<std::vector<float>> LayerInputs(const GoldenTensor& hidden,
                                              Last last) const {
    const int64_t each = hidden.shape[1] * hidden.shape[2];
    const int64_t count = hidden.shape[0] - (last == Last::kIsGiven ? 0 : 1);
    std::vector<std::vector<float>> inputs(1);
    for (int64_t l = 0; l < count; ++l) {
      const auto begin = hidden.values.begin() + l * each;
      inputs.emplace_back(begin, begin + each);
    }
    return inputs;
  }

  absl::Status Tap(PackedBatch* packed) {
    DebugTaps taps;
    taps.hidden = &hidden_;
    taps.index_scores = &scores_;
    taps.selected = &selected_;
    taps.keys_max = packed->batch.size();
    ForwardOptions options;
    options.taps = &taps;
    return model_->Forward(&packed->batch, nullptr, tape_.get(), options,
                           &final_);
  }

  absl::Status GoBack(const GoldenTensors& given, const std::string& name,
                      const std::vector<float>& dlogp, double temperature,
                      bool kept, PackedBatch* packed) {
    const GoldenTensor& topk = given.at(name + "topk");
    GivenBackend::Given all;
    all.inputs = LayerInputs(given.at(name + "hidden"), Last::kIsGiven);
    const int64_t each = topk.shape[1] * topk.shape[2];
    for (int64_t l = 0; l < layers(); ++l) {
      const auto begin = topk.values.begin() + l * each;
      all.selected.emplace_back(begin, begin + each);
      // The goldens have them by score; -1 stays last.
      for (int64_t n = 0; n < topk.shape[1]; ++n) {
        const auto row = all.selected.back().begin() + n * topk.shape[2];
        std::sort(row, row + topk.shape[2], [](int32_t a, int32_t b) {
          return static_cast<uint32_t>(a) < static_cast<uint32_t>(b);
        });
      }
    }
    backend_.Give(std::move(all));
    GiveRoutes(given.at(name + "routes"), &packed->batch);
    Tensor hidden;
    RETURN_IF_ERROR(
        model_->Forward(&packed->batch, nullptr, tape_.get(), {}, &hidden));
    RETURN_IF_ERROR(
        logprob_.Forward(*weights_, hidden, *packed, temperature, kept)
            .status());
    ASSIGN_OR_RETURN(const Tensor dhidden,
                     logprob_.Backward(*weights_, dlogp, gradients_.get()));
    model_->Backward(tape_.get(), dhidden, gradients_.get());
    return backend_.Sync();
  }

  // [M, T, K] of the goldens, by their gates, to [T, M, K], ascending.
  void GiveRoutes(const GoldenTensor& routes, TokenBatch* batch) const {
    const int64_t moe = config_.moe_layers(), n = batch->size();
    const int64_t chosen = config_.num_experts_per_tok;
    for (int64_t m = 0; m < moe; ++m) {
      for (int64_t i = 0; i < n; ++i) {
        const auto from = routes.values.begin() + (m * n + i) * chosen;
        const auto to = batch->routes.begin() + (i * moe + m) * chosen;
        std::copy(from, from + chosen, to);
        std::sort(to, to + chosen);
      }
    }
  }

  absl::Status TakeGradients(const std::string& loss, GoldenTensors* out) {
    for (const Parameter& p : weights_->parameters()) {
      if (p.group != ParameterGroup::kMain) continue;
      ASSIGN_OR_RETURN(const std::vector<float> values,
                       Download(&backend_, gradients_->grad(p)));
      (*out)[absl::StrCat("fp8_grad/", loss, "/", p.name)] =
          F32(p.shape, values);
    }
    return absl::OkStatus();
  }

  GivenBackend backend_;
  ModelConfig config_;
  GoldenInputs inputs_;
  std::unique_ptr<PublishedWeights> weights_;
  std::unique_ptr<Transformer> model_;
  std::unique_ptr<Tape> tape_;
  std::unique_ptr<ModelGradients> gradients_;
  TokenLogProb logprob_;
  std::vector<float> hidden_, scores_;
  std::vector<int32_t> selected_;
  Tensor final_;
};

}  // namespace

absl::StatusOr<GoldenTensors> ComputeFp8GoldenValues(Backend* backend,
                                                     const std::string& dir) {
  GoldenTensors out;
  ASSIGN_OR_RETURN(const GoldenTensors in, ReadInputs(dir));
  RETURN_IF_ERROR(Stages(backend, in, &out).Run());
  ASSIGN_OR_RETURN(const auto model,
                   Fp8Model::Create(backend, dir, kFp8OverFp32));
  for (const int64_t s : {0, 1}) RETURN_IF_ERROR(model->AddLive(s, &out));
  RETURN_IF_ERROR(model->AddLayerwise(dir, in.at("fp8/seq0/hidden"), &out));
  const auto given = ReadGoldenFile(dir + "/fp8_grad_in.safetensors");
  if (given.ok()) RETURN_IF_ERROR(model->AddGradients(*given, &out));
  return out;
}

absl::StatusOr<GoldenTensors> ComputeLiveForwards(Backend* backend,
                                                  const std::string& dir,
                                                  const Numerics& numerics) {
  GoldenTensors out;
  ASSIGN_OR_RETURN(const auto model, Fp8Model::Create(backend, dir, numerics));
  for (const int64_t s : {0, 1}) RETURN_IF_ERROR(model->AddLive(s, &out));
  return out;
}

absl::StatusOr<LayerwiseFp8> ComputeLayerwiseFp8(Backend* backend,
                                                 const std::string& dir,
                                                 const Numerics& numerics) {
  LayerwiseFp8 out;
  ASSIGN_OR_RETURN(const GoldenTensors in, ReadInputs(dir));
  ASSIGN_OR_RETURN(const auto model, Fp8Model::Create(backend, dir, numerics));
  RETURN_IF_ERROR(
      model->AddLayerwise(dir, in.at("fp8/seq0/hidden"), &out.tensors));
  out.attention = model->backend().attention();
  return out;
}

}  // namespace temper
