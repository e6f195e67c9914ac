#include "learner/train/init_weights.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "kernels/base/math.h"
#include "kernels/base/rng.h"

namespace temper {
namespace {

constexpr double kTwoPi = 6.283185307179586;

bool EndsWith(const std::string& text, const std::string& end) {
  return text.size() >= end.size() &&
         text.compare(text.size() - end.size(), end.size(), end) == 0;
}

// Box and Muller (1958), the cosine branch. The first uniform is kept above 0.
double Normal(uint64_t seed, uint64_t tensor, uint32_t element) {
  RngKey key;
  key.seed = seed;
  key.purpose = RngPurpose::kWeightInit;
  key.group = tensor;
  key.ordinal = element;
  const auto words = RandomWords(key);
  // Our own Log and Cos: libm's choose a variant by CPU, and the weights of a
  // seed are the same on every machine (DESIGN.md section 6).
  const double u = (static_cast<double>(words[0] >> 8) + 1) * 0x1p-24;
  const double v = static_cast<double>(UniformFromWord(words[1]));
  return std::sqrt(-2 * Log(u)) * Cos(kTwoPi * v);
}

}  // namespace

absl::Status InitWeights(uint64_t seed, double initializer_range,
                         MasterWeights* weights) {
  const std::vector<Parameter>& parameters = weights->parameters();
  const Parameter& last = parameters.back();
  std::vector<float> values(last.offset + last.elements, 0.0f);
  for (size_t p = 0; p < parameters.size(); ++p) {
    const Parameter& parameter = parameters[p];
    float* const out = values.data() + parameter.offset;
    if (parameter.shape.size() >= 2) {
      for (int64_t i = 0; i < parameter.elements; ++i) {
        out[i] = static_cast<float>(initializer_range *
                                    Normal(seed, p, static_cast<uint32_t>(i)));
      }
    } else if (EndsWith(parameter.name, "norm.weight")) {
      std::fill(out, out + parameter.elements, 1.0f);
    }
  }
  return weights->SetValues(values);
}

}  // namespace temper
