#include "tests/golden_compare.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <numeric>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/log.h"
#include "nlohmann/json.hpp"

namespace temper {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
using Kind = GoldenRules::Kind;

// compare.py's names; those of FP8 tensors are only told from the others.
Kind ParseKind(const std::string& name) {
  if (name == "sets") return Kind::kSets;
  if (name == "relmax") return Kind::kRelativeMax;
  if (name == "abs") return Kind::kAbsolute;
  if (name == "abs_of_kl") return Kind::kAbsoluteAboveOne;
  CHECK(name == "fp8" || name == "exact") << "kind " << name;
  return Kind::kFp8;
}

double AbsoluteMax(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() != b.size()) return kInfinity;
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double d = std::abs(a[i] - b[i]);
    if (std::isnan(d)) return kInfinity;
    worst = std::max(worst, d);
  }
  return worst;
}

// max |a - b| / max |a| over finite entries; infinities must coincide.
double RelativeMax(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() != b.size()) return kInfinity;
  double worst = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::isfinite(a[i]) != std::isfinite(b[i])) return kInfinity;
    if (!std::isfinite(a[i])) continue;
    worst = std::max(worst, std::abs(a[i] - b[i]));
    size = std::max(size, std::abs(a[i]));
  }
  return size > 0 ? worst / size : worst;
}

int64_t RowWidth(const GoldenTensor& tensor) {
  return tensor.shape.empty() ? 1 : tensor.shape.back();
}

// Fraction of rows whose index sets differ.
double DifferentSets(const GoldenTensor& a, const GoldenTensor& b) {
  if (a.shape != b.shape) return 1;
  const size_t width = RowWidth(a);
  size_t rows = 0, different = 0;
  for (size_t at = 0; at + width <= a.values.size(); at += width, ++rows) {
    std::vector<double> x(a.values.begin() + at, a.values.begin() + at + width);
    std::vector<double> y(b.values.begin() + at, b.values.begin() + at + width);
    std::sort(x.begin(), x.end());
    std::sort(y.begin(), y.end());
    different += x != y;
  }
  return rows > 0 ? static_cast<double>(different) / rows : 0;
}

// Gates by ascending expert id: the order of slots is free.
std::vector<double> ByExpert(const GoldenTensor& gates,
                             const GoldenTensor& routes) {
  const size_t width = RowWidth(gates);
  std::vector<double> sorted(gates.values.size());
  for (size_t at = 0; at < gates.values.size(); at += width) {
    std::vector<size_t> order(width);
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [&](size_t i, size_t j) {
      return routes.values[at + i] < routes.values[at + j];
    });
    for (size_t i = 0; i < width; ++i) {
      sorted[at + i] = gates.values[at + order[i]];
    }
  }
  return sorted;
}

// "grad_X_check/p" compares with the candidate's "grad_X/p".
struct GradientName {
  bool is_gradient = false;
  std::string full, variant;
};

GradientName ParseGradientName(const std::string& name) {
  static const auto* pattern =
      new std::regex("^(grad_\\w+?)(_check|_sample)?/(.*)$");
  std::smatch match;
  if (!std::regex_match(name, match, *pattern)) return {};
  return {true, match[1].str() + "/" + match[3].str(), match[2].str()};
}

// The excess over the tolerance as text; empty if it passes.
std::string CompareGradient(const GoldenRules& rules,
                            const std::string& variant,
                            const GoldenTensor& golden,
                            const std::vector<double>& full) {
  if (variant == "_check") {
    double squares = 0, dot = 0;
    for (size_t i = 0; i < full.size(); ++i) {
      squares += full[i] * full[i];
      dot += full[i] * std::cos(static_cast<double>(i));
    }
    const double norm = std::sqrt(squares);
    const double limit = rules.gradient_tolerance * golden.values[0] + 1e-12;
    if (std::abs(norm - golden.values[0]) <= limit &&
        std::abs(dot - golden.values[1]) <= limit) {
      return "";
    }
    return absl::StrCat("norm ", norm, " want ", golden.values[0], ", dot ",
                        dot, " want ", golden.values[1]);
  }
  std::vector<double> values = full;
  if (variant == "_sample") {
    values.clear();
    for (size_t i = 0; i < full.size(); i += rules.gradient_sample_stride) {
      values.push_back(full[i]);
    }
  }
  const double d = RelativeMax(golden.values, values);
  return d <= rules.gradient_tolerance ? "" : absl::StrCat("max rel ", d);
}

std::string CompareTensor(const GoldenRules& rules, const std::string& name,
                          const GoldenTensors& golden,
                          const GoldenTensors& candidate) {
  const GoldenTensor& want = golden.at(name);
  GoldenTensor aligned = want, got = candidate.at(name);
  if (absl::EndsWith(name, "gate_weights")) {
    std::string routes = name;
    routes.replace(routes.size() - 12, 12, "routes");
    const auto found = candidate.find(routes);
    if (found != candidate.end() && found->second.shape == want.shape &&
        got.shape == want.shape) {
      got.values = ByExpert(got, found->second);
      aligned.values = ByExpert(want, golden.at(routes));
    }
  }
  const auto found_rule = std::find_if(rules.rules.begin(), rules.rules.end(),
                                       [&](const GoldenRules::Rule& r) {
                                         return std::regex_search(name, r.name);
                                       });
  CHECK(found_rule != rules.rules.end()) << "no rule for " << name;
  const GoldenRules::Rule& rule = *found_rule;
  double d = 0, limit = rule.tolerance;
  switch (rule.kind) {
    case Kind::kFp8:
      CHECK(false) << name << " meets a rule of FP8 tensors";
      break;
    case Kind::kSets:
      d = DifferentSets(aligned, got);
      break;
    case Kind::kRelativeMax:
      d = RelativeMax(aligned.values, got.values);
      break;
    case Kind::kAbsolute:
      d = AbsoluteMax(aligned.values, got.values);
      break;
    case Kind::kAbsoluteAboveOne:
      d = AbsoluteMax(aligned.values, got.values);
      for (const double v : aligned.values) {
        limit = std::max(limit, rule.tolerance * std::abs(v));
      }
      break;
  }
  return d <= limit ? "" : absl::StrCat(d, " above ", limit);
}

}  // namespace

GoldenRules ReadGoldenRules(const std::string& path) {
  std::ifstream file(path);
  const auto json = nlohmann::json::parse(file, nullptr, false);
  CHECK(json.is_object()) << path << " is not there or no JSON";
  GoldenRules rules;
  rules.not_compared = json.at("not_compared").get<std::string>();
  rules.gradient_tolerance = json.at("gradient_tolerance").get<double>();
  rules.gradient_sample_stride =
      json.at("gradient_sample_stride").get<size_t>();
  for (const auto& rule : json.at("rules")) {
    rules.rules.push_back({std::regex(rule.at("name").get<std::string>()),
                           ParseKind(rule.at("kind").get<std::string>()),
                           rule.at("tolerance").get<double>()});
  }
  return rules;
}

GoldenReport CompareGolden(const GoldenRules& rules,
                           const GoldenTensors& golden,
                           const GoldenTensors& candidate,
                           const std::string& without) {
  const std::regex left_out(without);
  GoldenReport report;
  for (const auto& [name, tensor] : golden) {
    if (absl::StartsWith(name, "fp8/")) continue;
    const GradientName gradient = ParseGradientName(name);
    if (!gradient.is_gradient && std::regex_search(name, rules.not_compared))
      continue;
    const std::string key = gradient.is_gradient ? gradient.full : name;
    const auto found = candidate.find(key);
    if (found == candidate.end()) {
      if (without.empty() || !std::regex_search(key, left_out)) {
        report.missing.push_back(key);
      }
      continue;
    }
    ++report.compared;
    const std::string fault =
        gradient.is_gradient ? CompareGradient(rules, gradient.variant, tensor,
                                               found->second.values)
                             : CompareTensor(rules, name, golden, candidate);
    if (!fault.empty()) report.failed.push_back(name + ": " + fault);
  }
  return report;
}

}  // namespace temper
