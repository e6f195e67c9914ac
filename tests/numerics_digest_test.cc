// The numerics contract (DESIGN.md section 6), held: what a tiny seeded model
// computes has, on every tier and in every numerics, the bits that are
// committed.

#include "tests/numerics_digest.h"

#include <string>

#include "gtest/gtest.h"
#include "kernels/base/float_mode.h"
#include "kernels/find_backend.h"

namespace temper {
namespace {

void ExpectCommitted(const BackendSpec& spec) {
  SetFlushDenormals();
  const auto backend = FindBackend(spec);
  ASSERT_TRUE(backend.ok()) << backend.status();
  auto digests = NumericsDigests(backend->get(), kFp32);
  for (const Numerics& numerics : {kBf16, kFp8}) {
    digests.merge(NumericsDigests(backend->get(), numerics));
  }
  for (const auto& [what, committed] : CommittedDigests()) {
    EXPECT_EQ(digests.at(what), committed)
        << "the tiny model's " << what << ": not the committed bits, on tier "
        << spec.name << ". If another tier has them, this one is wrong; "
        << "if all differ alike, the definition changed: the comment at "
        << "CommittedDigests tells how to renew it on purpose";
  }
}

TEST(NumericsDigestTest, EveryTierGivesTheCommittedBits) {
  int threads = 1;
  for (const std::string& name : BackendNames()) {
    ExpectCommitted({.name = name, .threads = threads});
    threads = 2;
  }
}

}  // namespace
}  // namespace temper
