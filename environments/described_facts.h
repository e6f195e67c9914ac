// The facts of an environment as they travel: what a host answers to Describe,
// and what a registry file keeps.

#ifndef ENVIRONMENTS_DESCRIBED_FACTS_H_
#define ENVIRONMENTS_DESCRIBED_FACTS_H_

#include <string>

#include "absl/status/status.h"
#include "environments/environment.h"
#include "proto/environment.pb.h"

namespace temper {

EnvironmentDescription Describe(const EnvironmentFacts& facts);

// OK for what Describe may have made: a name and one line of text, limits that
// are none or not above the defaults. InvalidArgument names the field.
absl::Status CheckDescription(const EnvironmentDescription& description);

// OK for a name that an environment may have: a to z, 0 to 9, - and _, a letter
// first, at most 64. InvalidArgument says so.
absl::Status CheckEnvironmentName(const std::string& name);

// The facts of a description that CheckDescription passes; they point into the
// object. Constant, so thread-safe.
class DescribedFacts {
 public:
  explicit DescribedFacts(const EnvironmentDescription& description);
  DescribedFacts(const DescribedFacts&) = delete;
  DescribedFacts& operator=(const DescribedFacts&) = delete;

  const EnvironmentFacts& facts() const { return facts_; }

 private:
  const std::string name_;
  const std::string description_;
  EnvironmentFacts facts_;
};

}  // namespace temper

#endif  // ENVIRONMENTS_DESCRIBED_FACTS_H_
