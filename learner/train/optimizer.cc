#include "learner/train/optimizer.h"

#include <algorithm>
#include <cmath>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"

namespace temper {
namespace {

// beta^steps by repeated products: the same bits everywhere.
double Power(double beta, int64_t steps) {
  double result = 1, factor = beta;
  for (; steps > 0; steps >>= 1, factor *= factor) {
    if (steps & 1) result *= factor;
  }
  return result;
}

int64_t CountElements(const std::vector<Parameter>& parameters) {
  return parameters.empty()
             ? 0
             : parameters.back().offset + parameters.back().elements;
}

}  // namespace

OptimizerConfig UsualOptimizer() {
  OptimizerConfig optimizer;
  optimizer.set_learning_rate(1e-6);
  optimizer.set_weight_decay(0);
  optimizer.set_beta1(0.9);
  optimizer.set_beta2(0.95);
  optimizer.set_adam_eps(1e-8);
  optimizer.set_grad_clip(1);
  optimizer.set_warmup_steps(0);
  return optimizer;
}

double ClipFactor(double norm, double clip) {
  // The 1e-6 is torch.nn.utils.clip_grad_norm_'s.
  return clip > 0 ? std::min(1.0, clip / (norm + 1e-6)) : 1.0;
}

absl::StatusOr<std::unique_ptr<Optimizer>> Optimizer::Create(
    Backend* backend, MasterWeights* masters, PublishedWeights* published,
    const std::vector<ParameterGroup>& groups) {
  auto optimizer = std::unique_ptr<Optimizer>(new Optimizer());
  optimizer->backend_ = backend;
  optimizer->masters_ = masters;
  optimizer->published_ = published;
  for (const Parameter& parameter : masters->parameters()) {
    if (std::find(groups.begin(), groups.end(), parameter.group) !=
        groups.end()) {
      optimizer->trained_.push_back(parameter);
    }
  }
  // Of all parameters, trained or not: an element's moments then lie where its
  // value does, whatever groups are trained.
  optimizer->elements_ = CountElements(masters->parameters());
  ASSIGN_OR_RETURN(optimizer->moments_,
                   backend->Allocate(BytesFor(masters->config())));
  ASSIGN_OR_RETURN(optimizer->norm_, backend->Allocate(sizeof(double)));
  return optimizer;
}

int64_t Optimizer::BytesFor(const ModelConfig& config) {
  return 2 * CountElements(ListParameters(config)) *
         static_cast<int64_t>(sizeof(float));
}

Tensor Optimizer::Moment(int index, const Parameter& parameter) const {
  return Tensor(moments_->data(), DType::kF32, {2, elements_},
                backend_->device())
      .Slice(0, index, index + 1)
      .Slice(1, parameter.offset, parameter.offset + parameter.elements)
      .Reshape({parameter.elements});
}

absl::StatusOr<double> Optimizer::Step(const OptimizerConfig& options,
                                       const ModelGradients& gradients) {
  const Tensor squares(norm_->data(), DType::kF64, {1}, backend_->device());
  // One sum over all parameters, in their order: the norm is of the whole
  // gradient, and its bits depend on nothing else.
  std::vector<Tensor> trained;
  for (const Parameter& parameter : trained_) {
    trained.push_back(gradients.grad(parameter));
  }
  backend_->SumSquares(trained, squares);
  double sum = 0;
  RETURN_IF_ERROR(backend_->Read(squares, &sum));
  const double norm = std::sqrt(sum);
  if (!std::isfinite(norm)) {
    return absl::InternalError(absl::StrCat(
        "the gradient norm is ", norm, " at update ", steps_ + 1,
        "; the update is not made. Lower learning_rate or look at the batch"));
  }
  // Only now: an update that is not made leaves no trace.
  ++steps_;
  AdamWOptions adamw;
  adamw.learning_rate = static_cast<float>(options.learning_rate());
  adamw.beta1 = static_cast<float>(options.beta1());
  adamw.beta2 = static_cast<float>(options.beta2());
  adamw.eps = static_cast<float>(options.adam_eps());
  adamw.bias_correction1 =
      static_cast<float>(1 - Power(options.beta1(), steps_));
  adamw.bias_correction2 =
      static_cast<float>(1 - Power(options.beta2(), steps_));
  adamw.weight_decay = static_cast<float>(options.weight_decay());
  adamw.grad_scale = static_cast<float>(ClipFactor(norm, options.grad_clip()));
  std::vector<AdamWTensor> tensors;
  for (const Parameter& parameter : trained_) {
    const int64_t n = parameter.elements;
    tensors.push_back({.grad = gradients.grad(parameter).Reshape({n}),
                       .p = masters_->value(parameter).Reshape({n}),
                       .m = Moment(0, parameter),
                       .v = Moment(1, parameter),
                       .decays = parameter.decays});
  }
  backend_->AdamW(adamw, tensors);
  // The products read packings of the values, which are stale by now.
  published_->FollowMasters();
  return norm;
}

absl::Status Optimizer::CopyMoments(int64_t begin,
                                    std::vector<float>* piece) const {
  const Tensor all(moments_->data(), DType::kF32, {moments()},
                   backend_->device());
  const int64_t end = begin + static_cast<int64_t>(piece->size());
  return backend_->Read(all.Slice(0, begin, end), piece->data());
}

absl::Status Optimizer::SetState(int64_t steps, const std::byte* moments) {
  RETURN_IF_ERROR(backend_->CopyFromHost(
      moments, Tensor(moments_->data(), DType::kF32, {2, elements_},
                      backend_->device())));
  steps_ = steps;
  return absl::OkStatus();
}

}  // namespace temper
