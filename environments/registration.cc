#include "environments/registration.h"

#include <algorithm>
#include <cstddef>
#include <set>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "environments/described_facts.h"
#include "environments/registry.h"
#include "google/protobuf/util/json_util.h"
#include "kernels/base/byte_order_mark.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "proto/wire/json_line.h"
#include "proto/wire/loopback.h"

namespace temper {
namespace {

constexpr uint64_t kFileBytesMax = 1 << 20;
constexpr size_t kRegistrationsMax = 256;

}  // namespace

absl::Status CheckRegistration(const Registration& registration) {
  const std::string& name = registration.name();
  RETURN_IF_ERROR(CheckEnvironmentName(name));
  if (FindEnvironment(name) != nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(
        "environment ", name,
        " is built in, and a registration may not take its place; choose "
        "another name"));
  }
  if (registration.command().empty() == registration.address().empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "environment ", name,
        " is to have either a command that serves it or an address"));
  }
  if (!registration.address().empty()) {
    RETURN_IF_ERROR(CheckLoopback(registration.address()));
  } else if (!absl::StartsWith(registration.directory(), "/") ||
             registration.directory() == "/") {
    return absl::InvalidArgumentError(absl::StrCat(
        "environment ", name, ": directory \"", registration.directory(),
        "\" is to be an absolute path, and not / itself"));
  }
  RETURN_IF_ERROR(CheckDescription(registration.description()));
  if (registration.description().name() != name) {
    return absl::InvalidArgumentError(
        absl::StrCat("environment ", name, " describes itself as ",
                     registration.description().name()));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Registration>> ReadRegistrations(
    const std::string& path) {
  const auto text = ReadFile(path, kFileBytesMax);
  std::vector<Registration> all;
  if (absl::IsNotFound(text.status())) return all;
  RETURN_IF_ERROR(text.status());
  RETURN_IF_ERROR(RefuseByteOrderMark(*text, path));
  std::set<std::string> names;
  std::istringstream lines(*text);
  size_t number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (IsBlankLine(line)) continue;
    const std::string where = absl::StrCat(path, ":", number);
    Registration registration;
    RETURN_IF_ERROR(ParseJsonLine(line, where, &registration));
    absl::Status status = CheckRegistration(registration);
    if (status.ok() && !names.insert(registration.name()).second) {
      status = absl::InvalidArgumentError(absl::StrCat(
          "environment ", registration.name(), " is registered twice"));
    }
    if (status.ok() && names.size() > kRegistrationsMax) {
      status = absl::InvalidArgumentError(
          absl::StrCat("more than ", kRegistrationsMax, " environments"));
    }
    if (!status.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, ": ", std::string(status.message())));
    }
    all.push_back(registration);
  }
  return all;
}

absl::Status WriteRegistrations(const std::string& path,
                                const std::vector<Registration>& all) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string text;
  for (const Registration& registration : all) {
    RETURN_IF_ERROR(CheckRegistration(registration));
    std::string line;
    const auto status = google::protobuf::util::MessageToJsonString(
        registration, &line, options);
    CHECK(status.ok()) << status.ToString();
    absl::StrAppend(&text, line, "\n");
  }
  return WriteFileDurably(path, text);
}

bool HaveOpenSteps(const std::vector<Registration>& registrations) {
  return std::any_of(registrations.begin(), registrations.end(),
                     [](const Registration& registration) {
                       return registration.description().open_steps();
                     });
}

std::string WhereServed(const Registration& registration) {
  if (!registration.address().empty()) return registration.address();
  return absl::StrCat(absl::StrJoin(registration.command(), " "), " in ",
                      registration.directory());
}

}  // namespace temper
