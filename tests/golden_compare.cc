#include "tests/golden_compare.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <regex>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace temper {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kGradientTolerance = 1e-3;
constexpr size_t kSampleStride = 127;

enum class Kind { kSets, kRelativeMax, kAbsolute, kAbsoluteAboveOne };

struct Rule {
  std::regex name;
  Kind kind;
  double tolerance;
};

// First match wins.
const std::vector<Rule>& Rules() {
  static const auto* rules = new std::vector<Rule>{
      {std::regex("(topk|routes)$"), Kind::kSets, 0},
      {std::regex("^grpo/(opsm_mask|advantages)$"), Kind::kRelativeMax, 1e-9},
      {std::regex("_grad_l2"), Kind::kAbsolute, 1e-12},
      {std::regex("^grpo/drift$"), Kind::kAbsolute, 2e-5},
      {std::regex("^grpo/seq\\d+/(ratio|surrogate|k3|kl|token_loss|dlogp)$"),
       Kind::kRelativeMax, 5e-4},
      {std::regex("^grpo/(loss|surrogate|kl|seq_loss|loss_std|loss_refreplay|"
                  "advantages_std)"),
       Kind::kAbsoluteAboveOne, 2e-4},
      {std::regex("^grpo_\\w+/seq\\d+/dlogp$"), Kind::kRelativeMax, 5e-4},
      {std::regex("^grpo_\\w+/loss$"), Kind::kAbsoluteAboveOne, 2e-4},
      {std::regex("^adamw/loss_"), Kind::kRelativeMax, 1e-4},
      {std::regex("^adamw/grad_norms$"), Kind::kRelativeMax, 1e-3},
      {std::regex("^adamw/final_l2/"), Kind::kRelativeMax, 2e-5},
      {std::regex("^(lm|dsa_\\w+)/loss"), Kind::kRelativeMax, 2e-5},
      {std::regex(""), Kind::kRelativeMax, 1e-4},
  };
  return *rules;
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
std::string CompareGradient(const std::string& variant,
                            const GoldenTensor& golden,
                            const std::vector<double>& full) {
  if (variant == "_check") {
    double squares = 0, dot = 0;
    for (size_t i = 0; i < full.size(); ++i) {
      squares += full[i] * full[i];
      dot += full[i] * std::cos(static_cast<double>(i));
    }
    const double norm = std::sqrt(squares);
    const double limit = kGradientTolerance * golden.values[0] + 1e-12;
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
    for (size_t i = 0; i < full.size(); i += kSampleStride) {
      values.push_back(full[i]);
    }
  }
  const double d = RelativeMax(golden.values, values);
  return d <= kGradientTolerance ? "" : absl::StrCat("max rel ", d);
}

std::string CompareTensor(const std::string& name, const GoldenTensors& golden,
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
  const Rule& rule = *std::find_if(
      Rules().begin(), Rules().end(),
      [&](const Rule& r) { return std::regex_search(name, r.name); });
  double d = 0, limit = rule.tolerance;
  switch (rule.kind) {
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

GoldenReport CompareGolden(const GoldenTensors& golden,
                           const GoldenTensors& candidate,
                           const std::string& without) {
  const std::regex diagnostic("(_margin$|/x$|/w$)");
  const std::regex left_out(without);
  GoldenReport report;
  for (const auto& [name, tensor] : golden) {
    if (absl::StartsWith(name, "fp8/")) continue;
    const GradientName gradient = ParseGradientName(name);
    if (!gradient.is_gradient && std::regex_search(name, diagnostic)) continue;
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
        gradient.is_gradient
            ? CompareGradient(gradient.variant, tensor, found->second.values)
            : CompareTensor(name, golden, candidate);
    if (!fault.empty()) report.failed.push_back(name + ": " + fault);
  }
  return report;
}

}  // namespace temper
