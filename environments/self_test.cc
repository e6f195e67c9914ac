#include "environments/self_test.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "environments/registry.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"

namespace temper {
namespace {

absl::Status Broken(const SelfTestCase& known, const std::string& what) {
  return absl::InternalError(
      absl::StrCat("self-test ", known.name, ": ", what));
}

absl::Status Play(const SelfTestCase& known, const EnvironmentContext& context,
                  SelfTestReport* report) {
  const absl::Status here =
      known.runs_here == nullptr ? absl::OkStatus() : known.runs_here();
  if (!here.ok()) {
    report->skipped.push_back(absl::StrCat(known.name, ": ", here.message()));
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<Environment> episode,
                   NewEnvironment(known.task.environment(), context));
  ASSIGN_OR_RETURN(const Observation begun,
                   episode->Reset(known.task, /*seed=*/1));
  std::vector<Message> transcript = begun.messages;
  transcript.emplace_back();
  transcript.back().set_role("assistant");
  transcript.back().set_content(known.answer);
  ASSIGN_OR_RETURN(const Verdict verdict,
                   episode->Grade(OUTCOME_OK, transcript));
  const bool good = known.kind == SelfTestCase::Kind::kGood;
  if (!verdict.verified()) return Broken(known, "no verifier ran");
  if (verdict.correct() != good) {
    return Broken(known, absl::StrCat(good ? "right, and not correct: "
                                           : "wrong, and correct: ",
                                      verdict.detail()));
  }
  using Kind = SelfTestCase::Kind;
  report->good += good;
  report->bad += known.kind == Kind::kBad;
  report->empty += known.kind == Kind::kEmpty;
  report->attacks += known.kind == Kind::kAttack;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SelfTestReport> RunSelfTest(const EnvironmentFacts& facts,
                                           const EnvironmentContext& context) {
  CHECK(facts.self_test != nullptr);
  SelfTestReport report;
  for (const SelfTestCase& known : facts.self_test()) {
    RETURN_IF_ERROR(Play(known, context, &report));
  }
  if (report.good * report.bad * report.empty * report.attacks == 0) {
    return absl::InternalError(
        absl::StrCat(facts.name,
                     " is not tested by a good answer, a bad one, an empty one "
                     "and an attack each"));
  }
  return report;
}

}  // namespace temper
