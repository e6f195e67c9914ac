#include "environments/described_facts.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/shown_text.h"
#include "kernels/base/status_macros.h"

namespace temper {
namespace {

constexpr size_t kNameBytesMax = 64;
constexpr size_t kDescriptionBytesMax = 200;

absl::Status CheckLimit(const char* field, uint32_t stated, int64_t most) {
  if (stated <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      field, " is ", stated, ", at most ", most, "; 0 or less of it will do"));
}

int64_t Or(uint32_t stated, int64_t otherwise) {
  return stated == 0 ? otherwise : stated;
}

}  // namespace

EnvironmentDescription Describe(const EnvironmentFacts& facts) {
  EnvironmentDescription description;
  description.set_name(facts.name);
  description.set_description(facts.description);
  description.set_deterministic(facts.deterministic);
  description.set_needs_sandbox(facts.needs_sandbox);
  description.set_reset_ms(static_cast<uint32_t>(facts.limits.reset_ms));
  description.set_step_ms(static_cast<uint32_t>(facts.limits.step_ms));
  description.set_grade_ms(static_cast<uint32_t>(facts.limits.grade_ms));
  description.set_open_steps(facts.open_steps);
  return description;
}

absl::Status CheckEnvironmentName(const std::string& name) {
  const bool known = std::all_of(name.begin(), name.end(), [](char c) {
    return absl::ascii_islower(static_cast<unsigned char>(c)) ||
           absl::ascii_isdigit(static_cast<unsigned char>(c)) || c == '_' ||
           c == '-';
  });
  if (known && !name.empty() && name.size() <= kNameBytesMax &&
      absl::ascii_islower(static_cast<unsigned char>(name[0]))) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("\"", ShownLine(name),
                   "\" is no name of an environment: a to z, 0 to 9, ",
                   "- and _, a letter first, at most ", kNameBytesMax));
}

absl::Status CheckDescription(const EnvironmentDescription& description) {
  RETURN_IF_ERROR(CheckEnvironmentName(description.name()));
  const std::string& text = description.description();
  if (text.empty() || text.size() > kDescriptionBytesMax ||
      text != ShownLine(text)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the description of ", description.name(),
                     " is to be one line of at most ", kDescriptionBytesMax,
                     " bytes, and not empty"));
  }
  const EnvironmentLimits most;
  RETURN_IF_ERROR(
      CheckLimit("reset_ms", description.reset_ms(), most.reset_ms));
  RETURN_IF_ERROR(CheckLimit("step_ms", description.step_ms(), most.step_ms));
  return CheckLimit("grade_ms", description.grade_ms(), most.grade_ms);
}

DescribedFacts::DescribedFacts(const EnvironmentDescription& description)
    : name_(description.name()), description_(description.description()) {
  facts_.name = name_.c_str();
  facts_.description = description_.c_str();
  facts_.deterministic = description.deterministic();
  facts_.served_in = ServedIn::kRegistered;
  facts_.needs_sandbox = description.needs_sandbox();
  facts_.open_steps = description.open_steps();
  const EnvironmentLimits most;
  facts_.limits.reset_ms = Or(description.reset_ms(), most.reset_ms);
  facts_.limits.step_ms = Or(description.step_ms(), most.step_ms);
  facts_.limits.grade_ms = Or(description.grade_ms(), most.grade_ms);
}

}  // namespace temper
