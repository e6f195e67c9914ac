#include "environments/environment_set.h"

#include <chrono>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "environments/described_facts.h"
#include "environments/environment_command.h"
#include "environments/registration.h"
#include "environments/registry.h"
#include "environments/remote_environment.h"
#include "google/protobuf/util/message_differencer.h"
#include "kernels/base/file.h"
#include "kernels/base/mutex.h"
#include "kernels/base/status_macros.h"

namespace temper {
namespace {

// From the start of a program, or the first call of an address, to its answer.
constexpr std::chrono::seconds kServeMax(60);
constexpr std::chrono::seconds kDescribeMax(5);
constexpr std::chrono::seconds kReadyPause(1);
constexpr uint64_t kAddressBytesMax = 256;
// From the end of a connection until the program that had it can be reaped.
constexpr std::chrono::seconds kEndMax(2);
constexpr std::chrono::milliseconds kEndPause(20);

using Descriptions = std::vector<EnvironmentDescription>;

absl::StatusOr<EnvironmentDescription> PickDescribed(
    const Descriptions& described, const std::string& name) {
  std::vector<std::string> names;
  for (const EnvironmentDescription& description : described) {
    if (description.name() == name) return description;
    names.push_back(description.name());
  }
  return absl::NotFoundError(
      absl::StrCat("environment ", name, " is not what is served: it is ",
                   names.empty() ? "nothing" : absl::StrJoin(names, ", ")));
}

// A program that was started, or somebody's host, and the way to it.
struct Served {
  std::unique_ptr<EnvironmentCommand> command;  // null: somebody's host
  std::unique_ptr<EnvironmentClient> client;    // ends before the command
};

absl::StatusOr<Served> Serve(const Registration& registration) {
  Served served;
  std::string address = registration.address();
  if (address.empty()) {
    ASSIGN_OR_RETURN(served.command,
                     EnvironmentCommand::Start(registration, /*output=*/-1));
    address = served.command->address();
  }
  served.client = std::make_unique<EnvironmentClient>(
      [address] { return address; }, RemoteEnvironmentOptions());
  return served;
}

}  // namespace

absl::StatusOr<std::vector<EnvironmentDescription>> AwaitDescriptions(
    const Registration& registration, EnvironmentClient* client,
    EnvironmentCommand* command) {
  const auto deadline = std::chrono::steady_clock::now() + kServeMax;
  for (;;) {
    // A call that fails at once polls no connection, and one that is made while
    // the program binds its socket would be noticed after 5 seconds.
    const absl::Status ready = client->WaitUntilReady(kReadyPause);
    const auto described = ready.ok() ? client->Describe(kDescribeMax)
                                      : absl::StatusOr<Descriptions>(ready);
    if (command != nullptr) RETURN_IF_ERROR(command->Check());
    if (described.ok()) return described;
    // Who answers at all and wrongly will not do better. Only a program that is
    // starting is waited for.
    const bool may_come = absl::IsUnavailable(described.status()) ||
                          absl::IsDeadlineExceeded(described.status());
    if (!may_come || command == nullptr ||
        std::chrono::steady_clock::now() >= deadline) {
      return absl::Status(
          described.status().code(),
          absl::StrCat("environment ", registration.name(), " at ",
                       WhereServed(registration), ": ",
                       std::string(described.status().message()),
                       command == nullptr
                           ? "; is it started?"
                           : "; its program is to serve at the address that "
                             "is its last argument"));
    }
  }
}

std::string ServedAddressFile(const std::string& run_dir,
                              const std::string& name) {
  return absl::StrCat(run_dir, "/environment-", name, ".address");
}

absl::StatusOr<Registration> Described(Registration registration) {
  ASSIGN_OR_RETURN(const Served served, Serve(registration));
  ASSIGN_OR_RETURN(const Descriptions described,
                   AwaitDescriptions(registration, served.client.get(),
                                     served.command.get()));
  ASSIGN_OR_RETURN(*registration.mutable_description(),
                   PickDescribed(described, registration.name()));
  return registration;
}

absl::Status OfRegistry(const absl::Status& status, const std::string& path) {
  if (!absl::IsInvalidArgument(status)) return status;
  return absl::InvalidArgumentError(absl::StrCat(
      std::string(status.message()), ", which ", path,
      " has; put it back, or register it again in that file's directory"));
}

absl::Status CheckAsRegistered(
    const Registration& registration, const std::string& path,
    const std::vector<EnvironmentDescription>& described) {
  ASSIGN_OR_RETURN(const EnvironmentDescription now,
                   PickDescribed(described, registration.name()));
  if (google::protobuf::util::MessageDifferencer::Equals(
          now, registration.description())) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(
      absl::StrCat("environment ", registration.name(),
                   " describes itself otherwise than when it was registered, "
                   "which ",
                   path,
                   " has; make it what it was, or register it again in that "
                   "file's directory"));
}

class EnvironmentSet::Registered {
 public:
  // Of the registry file `path`. `address_file` is "" if what has a command is
  // started here; else where a run says its address.
  Registered(const Registration& registration, std::string path,
             std::string address_file)
      : registration_(registration),
        facts_(registration.description()),
        path_(std::move(path)),
        address_file_(std::move(address_file)) {}

  const EnvironmentFacts& facts() const { return facts_.facts(); }

  absl::StatusOr<std::unique_ptr<Environment>> New() {
    MutexLock lock(&mutex_);
    if (served_.client == nullptr) RETURN_IF_ERROR(Connect());
    // Nobody starts it again: what ended it is told at once.
    if (served_.command != nullptr) RETURN_IF_ERROR(served_.command->Check());
    return served_.client->NewEnvironment(&facts_.facts());
  }

  absl::Status Explain(const absl::Status& status) {
    MutexLock lock(&mutex_);
    const auto until = std::chrono::steady_clock::now() + kEndMax;
    while (served_.command != nullptr) {
      RETURN_IF_ERROR(served_.command->Check());
      if (!absl::IsUnavailable(status) ||
          std::chrono::steady_clock::now() >= until) {
        break;
      }
      std::this_thread::sleep_for(kEndPause);
    }
    const std::string name = absl::StrCat("environment ", facts().name);
    const std::string told(status.message());
    // A task that is refused is named by who asked.
    if (absl::IsInvalidArgument(status) || absl::StrContains(told, name)) {
      return status;
    }
    return absl::Status(status.code(), absl::StrCat(name, ": ", told));
  }

 private:
  absl::Status Connect() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!address_file_.empty()) {
      // Who began the run has asked what it says of itself, and `temper env
      // serve` does when it starts; here one that is away is waited for.
      served_.client = std::make_unique<EnvironmentClient>(
          [address = registration_.address(),
           file = address_file_]() -> absl::StatusOr<std::string> {
            if (!address.empty()) return address;
            return ReadFile(file, kAddressBytesMax);
          },
          RemoteEnvironmentOptions());
      return absl::OkStatus();
    }
    auto started = Serve(registration_);
    if (!started.ok()) return OfRegistry(started.status(), path_);
    Served served = *std::move(started);
    ASSIGN_OR_RETURN(const Descriptions described,
                     AwaitDescriptions(registration_, served.client.get(),
                                       served.command.get()));
    RETURN_IF_ERROR(CheckAsRegistered(registration_, path_, described));
    served_ = std::move(served);
    return absl::OkStatus();
  }

  const Registration registration_;
  const DescribedFacts facts_;
  const std::string path_;
  const std::string address_file_;
  Mutex mutex_;
  Served served_ ABSL_GUARDED_BY(mutex_);  // client null before the first use
};

EnvironmentSet::EnvironmentSet() = default;
EnvironmentSet::~EnvironmentSet() = default;

absl::StatusOr<std::unique_ptr<EnvironmentSet>> EnvironmentSet::Open(
    const std::string& path) {
  std::unique_ptr<EnvironmentSet> set(new EnvironmentSet);
  ASSIGN_OR_RETURN(set->registrations_, ReadRegistrations(path));
  for (const Registration& registration : set->registrations_) {
    set->registered_.push_back(
        std::make_unique<Registered>(registration, path, ""));
  }
  return set;
}

absl::StatusOr<std::unique_ptr<EnvironmentSet>> EnvironmentSet::OfRun(
    const std::string& run_dir) {
  std::unique_ptr<EnvironmentSet> set(new EnvironmentSet);
  const std::string path = absl::StrCat(run_dir, "/", kRegistryFile);
  ASSIGN_OR_RETURN(set->registrations_, ReadRegistrations(path));
  for (const Registration& registration : set->registrations_) {
    set->registered_.push_back(std::make_unique<Registered>(
        registration, path, ServedAddressFile(run_dir, registration.name())));
  }
  return set;
}

std::vector<const EnvironmentFacts*> EnvironmentSet::All() const {
  std::vector<const EnvironmentFacts*> all = RegisteredEnvironments();
  for (const auto& registered : registered_) {
    all.push_back(&registered->facts());
  }
  return all;
}

const EnvironmentFacts* EnvironmentSet::Find(const std::string& name) const {
  for (const auto& registered : registered_) {
    if (name == registered->facts().name) return &registered->facts();
  }
  return FindEnvironment(name);
}

absl::Status EnvironmentSet::CheckName(const std::string& name) const {
  if (Find(name) != nullptr) return absl::OkStatus();
  std::vector<std::string> names;
  for (const EnvironmentFacts* facts : All()) names.push_back(facts->name);
  return absl::InvalidArgumentError(absl::StrCat("there is no environment \"",
                                                 name, "\"; there are ",
                                                 absl::StrJoin(names, ", ")));
}

absl::StatusOr<Observation> EnvironmentSet::Validate(const Task& task) {
  RETURN_IF_ERROR(CheckName(task.environment()));
  for (const auto& registered : registered_) {
    if (task.environment() != registered->facts().name) continue;
    ASSIGN_OR_RETURN(const auto episode, registered->New());
    auto known = episode->Validate(task);
    if (!known.ok()) return registered->Explain(known.status());
    return known;
  }
  return ValidateTask(task);
}

absl::StatusOr<std::unique_ptr<Environment>> EnvironmentSet::New(
    const std::string& name, const EnvironmentContext& context) {
  RETURN_IF_ERROR(CheckName(name));
  for (const auto& registered : registered_) {
    if (name == registered->facts().name) return registered->New();
  }
  return NewEnvironment(name, context);
}

absl::Status EnvironmentSet::Explain(const std::string& name,
                                     const absl::Status& status) {
  for (const auto& registered : registered_) {
    if (name == registered->facts().name) return registered->Explain(status);
  }
  return status;
}

}  // namespace temper
