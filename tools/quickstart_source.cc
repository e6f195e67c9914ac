#include "tools/quickstart_source.h"

#include <string>

#include "kernels/base/status_macros.h"
#include "tools/quickstart_demonstrations.h"

namespace temper {
namespace {

class QuickstartSource : public DemonstrationSource {
 public:
  explicit QuickstartSource(uint64_t seed) : seed_(seed) {}

  absl::StatusOr<Demonstration> Get(const std::string& mix,
                                    uint64_t index) override {
    ASSIGN_OR_RETURN(const SlipRates rates, RatesOfMix(mix));
    return MakeQuickstartDemonstration(seed_, rates, index).demonstration;
  }

 private:
  const uint64_t seed_;
};

}  // namespace

std::unique_ptr<DemonstrationSource> NewQuickstartSource(uint64_t seed) {
  return std::make_unique<QuickstartSource>(seed);
}

}  // namespace temper
