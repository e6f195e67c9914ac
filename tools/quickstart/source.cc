#include "tools/quickstart/source.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "tools/quickstart/demonstrations.h"

namespace temper {
namespace {

class QuickstartSource : public DemonstrationSource {
 public:
  explicit QuickstartSource(uint64_t seed) : seed_(seed) {}

  uint64_t size() const override { return 0; }

  absl::Status CheckMix(const std::string& mix) const override {
    return RatesOfMix(mix).status();
  }

  absl::StatusOr<Demonstration> Get(const std::string& mix,
                                    uint64_t index) const override {
    // Each is made anew from (seed, index): a stage that begins in the middle
    // of the stream needs nothing of what came before.
    ASSIGN_OR_RETURN(const SlipRates rates, RatesOfMix(mix));
    return MakeQuickstartDemonstration(seed_, rates, index).demonstration;
  }

  std::string Place(uint64_t index) const override {
    return absl::StrCat("the quickstart's demonstration ", index + 1);
  }

  // Seed and mix say it all, and those are in the configuration.
  std::string digest() const override { return ""; }

 private:
  const uint64_t seed_;
};

}  // namespace

std::unique_ptr<DemonstrationSource> NewQuickstartSource(uint64_t seed) {
  return std::make_unique<QuickstartSource>(seed);
}

}  // namespace temper
