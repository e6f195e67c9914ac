// A model's parameters in a Hugging Face directory: model.safetensors or its
// sharded index, F32 or BF16; those that numerics fp8 publishes as codes also
// F8_E4M3, with their scales beside them.
//
// Functions and plain data without state; thread-safe.

#ifndef KERNELS_MODEL_WEIGHTS_FILE_H_
#define KERNELS_MODEL_WEIGHTS_FILE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/model/config.h"
#include "kernels/model/parameters.h"
#include "kernels/model/safetensors.h"

namespace temper {

// A tensor carried through load and save without being used (MTP layers).
struct CarriedTensor {
  std::string name;
  std::string dtype;  // as in the file
  std::vector<int64_t> shape;
  std::string bytes;
};

// The matrices that a directory has in F8_E4M3, and those of them whose scales
// are none that numerics fp8 gives: it quantises their values anew.
struct StoredCodes {
  int64_t matrices = 0;
  int64_t of_other_scales = 0;
};

// An open directory that holds exactly the tensors of a model.
class WeightsFile {
 public:
  // InvalidArgument or DataLoss, naming the directory, for the first tensor
  // that is missing, unexpected, or of another shape, scales included. Values
  // are not read: what is not finite, or of another type, is Read's to find.
  static absl::StatusOr<WeightsFile> Open(const ModelConfig& config,
                                          const std::string& model_dir);

  // Reads all scales. InvalidArgument names one that is no finite number above
  // 0.
  absl::StatusOr<StoredCodes> CountCodes() const;

  // Gives each parameter's values, in the order of the list, one parameter at a
  // time; `values` are used until it returns. An error of its own ends it.
  using Reader = std::function<absl::Status(const Parameter& parameter,
                                            const std::vector<float>& values)>;
  absl::Status Read(const Reader& reader) const;

  // The bytes of the tensors that no parameter takes.
  std::vector<CarriedTensor> ReadCarried() const;

 private:
  WeightsFile() = default;

  std::string model_dir_;
  std::vector<Parameter> parameters_;
  std::unique_ptr<Safetensors> file_;
  // Of parameters_, in order; scales only beside what is F8_E4M3, else null.
  std::vector<const SafetensorsEntry*> found_;
  std::vector<const SafetensorsEntry*> scales_;
  std::vector<const SafetensorsEntry*> carried_;
};

// Gives elements [begin, begin + values->size()) of all parameters.
using ValueSource =
    std::function<absl::Status(int64_t begin, std::vector<float>* values)>;

// Writes model.safetensors, and config.json that says what was written, into an
// existing directory, a piece of a tensor at a time; carried tensors go back
// byte for byte. `dtype` is F32, BF16 (nearest even; vectors stay F32) or
// F8_E4M3 (each tensor as numerics fp8 publishes it), else InvalidArgument;
// DataLoss for a value that F8_E4M3 has no scale for.
absl::Status WriteWeights(const std::string& model_dir,
                          const ModelConfig& config, const std::string& dtype,
                          const std::vector<CarriedTensor>& carried,
                          const ValueSource& source);

}  // namespace temper

#endif  // KERNELS_MODEL_WEIGHTS_FILE_H_
