// The op cases' backends on the CPU: every tier that this machine has, with one
// thread and two, and one behind a StagingBackend, whose copies are tried so;
// each behind a ProbingBackend.

#include "kernels/ops/testing/backends_under_test.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/float_mode.h"
#include "kernels/base/log.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/cpu_tier.h"
#include "kernels/ops/testing/probing_backend.h"
#include "kernels/ops/testing/staging_backend.h"

namespace temper {
namespace {

std::unique_ptr<Backend> Make(const std::string& tier, int threads) {
  auto backend = NewCpuBackend(tier, threads);
  CHECK(backend.ok()) << backend.status();
  return *std::move(backend);
}

}  // namespace

const std::vector<BackendUnderTest>& BackendsUnderTest() {
  static const auto* backends = [] {
    SetFlushDenormals();
    auto* made = new std::vector<BackendUnderTest>;
    const auto add = [&](const std::string& name, auto make_device) {
      made->push_back(
          {name, NewProbingBackend(name, make_device(), make_device(),
                                   Make(CpuTiers().front().name, 1))});
    };
    for (const std::string& tier : UsableCpuTiers()) {
      for (const int threads : {1, 2}) {
        add(absl::StrCat(tier, ", threads ", threads),
            [&] { return Make(tier, threads); });
      }
    }
    add("the best tier, staged",
        [&] { return NewStagingBackend(Make("", 2)); });
    return made;
  }();
  return *backends;
}

// Tiers differ in their loops alone.
const std::vector<BackendUnderTest>& BareDevices() {
  static const auto* devices = [] {
    SetFlushDenormals();
    auto* made = new std::vector<BackendUnderTest>;
    made->push_back({"scalar", Make(CpuTiers().front().name, 1)});
    return made;
  }();
  return *devices;
}

}  // namespace temper
