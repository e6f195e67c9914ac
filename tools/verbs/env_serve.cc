#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "environments/described_facts.h"
#include "environments/environment_command.h"
#include "environments/environment_set.h"
#include "environments/registration.h"
#include "environments/remote_environment.h"
#include "kernels/base/clock.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "tools/cli/cli.h"
#include "tools/cli/flags.h"
#include "tools/run/stop_signal.h"
#include "tools/verbs/env_verbs.h"

namespace temper {
namespace {

constexpr int64_t kPollMs = 200;
constexpr int64_t kAskMs = 5'000;
constexpr int64_t kAnswerMs = 3'000;  // or its longest call, if that is more
// Beyond its longest call.
constexpr int64_t kSilenceMs = 10'000;

absl::StatusOr<Registration> FindRegistration(const std::string& registry,
                                              const std::string& name) {
  ASSIGN_OR_RETURN(const std::vector<Registration> all,
                   ReadRegistrations(registry));
  for (const Registration& registration : all) {
    if (registration.name() != name) continue;
    if (!registration.command().empty()) return registration;
    return absl::InvalidArgumentError(
        absl::StrCat("environment ", name, " is served at ",
                     registration.address(), " by somebody else"));
  }
  return absl::NotFoundError(absl::StrCat(registry, " has no environment ",
                                          name,
                                          "; `temper env register` adds "
                                          "one"));
}

using Described = absl::StatusOr<std::vector<EnvironmentDescription>>;

// Watches until a stop signal; an error if the program ended or hangs. A call
// that is answered at all is answered within its limit, so a program that does
// one at a time may be silent as long; a Describe that waits behind such a call
// is asked from a thread, to hear signals meanwhile. *asked is one that had no
// answer yet.
absl::Status Watch(const Registration& registration,
                   const std::string& registry, const EnvironmentLimits& limits,
                   EnvironmentClient* client, EnvironmentCommand* command,
                   std::future<Described>* asked) {
  const int64_t call_ms =
      std::max({limits.reset_ms, limits.step_ms, limits.grade_ms});
  const std::chrono::milliseconds answer_max(std::max(kAnswerMs, call_ms));
  int64_t answered_us = SystemClock()->MonotonicMicros();
  int64_t asked_us = answered_us;
  std::string fault;
  while (!WaitForStopSignal(kPollMs)) {
    RETURN_IF_ERROR(command->Check());
    const int64_t now = SystemClock()->MonotonicMicros();
    if (asked->valid() &&
        asked->wait_for(std::chrono::seconds(0)) == std::future_status::ready) {
      const Described described = asked->get();
      if (described.ok()) {
        RETURN_IF_ERROR(CheckAsRegistered(registration, registry, *described));
        answered_us = now;
      }
      fault = std::string(described.status().message());
    }
    if (!asked->valid() && now - asked_us >= 1000 * kAskMs) {
      asked_us = now;
      *asked = std::async(std::launch::async, [client, answer_max] {
        return client->Describe(answer_max);
      });
    }
    if (now - answered_us > 1000 * (kSilenceMs + call_ms)) {
      return absl::DeadlineExceededError(
          absl::StrCat("environment ", registration.name(),
                       " did not answer for ", (now - answered_us) / 1'000'000,
                       " s, longer than its longest call: ", fault));
    }
  }
  return absl::OkStatus();
}

absl::Status Serve(const std::string& name, const std::string& registry,
                   const std::string& address_file) {
  ASSIGN_OR_RETURN(const Registration registration,
                   FindRegistration(registry, name));
  RETURN_IF_ERROR(InstallStopSignal());
  auto started = EnvironmentCommand::Start(registration, STDERR_FILENO);
  if (!started.ok()) return OfRegistry(started.status(), registry);
  std::unique_ptr<EnvironmentCommand> command = *std::move(started);
  LOG(INFO) << "environment " << name << ": " << WhereServed(registration)
            << "; " << EnvironmentCommand::DescribeWalls();
  EnvironmentClient client([address = command->address()] { return address; },
                           RemoteEnvironmentOptions());
  ASSIGN_OR_RETURN(const auto described,
                   AwaitDescriptions(registration, &client, command.get()));
  RETURN_IF_ERROR(CheckAsRegistered(registration, registry, described));
  RETURN_IF_ERROR(WriteFileDurably(address_file, command->address()));
  const DescribedFacts facts(registration.description());
  std::future<Described> asked;
  const absl::Status watched =
      Watch(registration, registry, facts.facts().limits, &client,
            command.get(), &asked);
  // With the program its connection ends, and so does who waits for an answer.
  command = nullptr;
  return watched;
}

}  // namespace

int RunEnvServe(int argc, char** argv) {
  std::string name;
  std::string registry = kRegistryFile;
  std::string address_file;
  Flags flags("env serve",
              "Starts the command of a registered environment behind its "
              "walls, and watches it; what it says goes to stderr.");
  flags.Text("NAME", &name, "The environment.");
  flags.Require();
  flags.Text("--registry", &registry,
             "The registry file; default environments.jsonl.");
  flags.Text("--address-file", &address_file,
             "Where to write at what address it serves.");
  flags.Require();
  if (const auto code = flags.Parse(argc, argv)) return *code;
  const absl::Status status = Serve(name, registry, address_file);
  return status.ok() ? kExitDone : ReportError("env serve", status);
}

}  // namespace temper
