#include "kernels/model/master_weights.h"

#include "absl/strings/str_cat.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"

namespace temper {

int64_t MasterWeights::BytesFor(const ModelConfig& config) {
  return ParameterTable(config).elements() *
         static_cast<int64_t>(sizeof(float));
}

absl::StatusOr<std::unique_ptr<MasterWeights>> MasterWeights::Create(
    Backend* backend, const ModelConfig& config) {
  std::unique_ptr<MasterWeights> weights(new MasterWeights(config));
  weights->backend_ = backend;
  ASSIGN_OR_RETURN(weights->buffer_, backend->Allocate(BytesFor(config)));
  return weights;
}

absl::StatusOr<std::unique_ptr<MasterWeights>> MasterWeights::Load(
    Backend* backend, const ModelConfig& config, const std::string& model_dir) {
  // Opened, and every tensor found, before the buffer is asked for: a
  // config.json may claim a size that no file backs.
  ASSIGN_OR_RETURN(const WeightsFile file,
                   WeightsFile::Open(config, model_dir));
  ASSIGN_OR_RETURN(std::unique_ptr<MasterWeights> weights,
                   Create(backend, config));
  RETURN_IF_ERROR(file.Read(
      [&](const Parameter& parameter, const std::vector<float>& values) {
        return backend->CopyFromHost(values.data(), weights->value(parameter));
      }));
  weights->carried_ = file.ReadCarried();
  RETURN_IF_ERROR(backend->Sync());
  return weights;
}

absl::Status MasterWeights::Save(const std::string& model_dir,
                                 const std::string& dtype) const {
  return WriteWeights(
      model_dir, config_, dtype, carried_,
      [this](int64_t begin, std::vector<float>* values) {
        const int64_t end = begin + static_cast<int64_t>(values->size());
        // A piece at a time: a checkpoint never has a second copy of the
        // masters.
        return backend_->Read(all().Slice(0, begin, end), values->data());
      });
}

absl::Status MasterWeights::SetValues(const std::vector<float>& values) {
  const Tensor to = all();
  if (static_cast<int64_t>(values.size()) != to.elements()) {
    return absl::InvalidArgumentError(
        absl::StrCat(values.size(), " values for a model of ", to.elements(),
                     " parameters"));
  }
  RETURN_IF_ERROR(backend_->CopyFromHost(values.data(), to));
  return backend_->Sync();
}

std::vector<float> MasterWeights::GetValues() const {
  const Tensor from = all();
  std::vector<float> values(from.elements());
  const absl::Status status = backend_->Read(from, values.data());
  CHECK(status.ok()) << status;
  return values;
}

Tensor MasterWeights::value(const Parameter& parameter) const {
  return Shaped(all(), parameter, parameter.offset);
}

Tensor MasterWeights::value(const std::string& name) const {
  return value(parameters_.Named(name));
}

Tensor MasterWeights::all() const {
  return Tensor(buffer_->data(), DType::kF32, {parameters_.elements()},
                backend_->device());
}

}  // namespace temper
