#include <cstdint>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "environments/environment_host.h"
#include "environments/sandbox.h"
#include "environments/sandbox_supervisor.h"
#include "kernels/base/clock.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "tools/cli/cli.h"
#include "tools/cli/flags.h"
#include "tools/run/stop_signal.h"
#include "tools/verbs/verbs.h"

namespace temper {
namespace {

constexpr uint64_t kAddressBytesMax = 256;
constexpr int64_t kWaitMs = 500;

// A host that comes back listens where it did before, if it can: workers keep
// that address.
absl::StatusOr<std::unique_ptr<EnvironmentHostServer>> Listen(
    EnvironmentHostOptions options, const std::string& address_file,
    const EnvironmentContext& context) {
  if (!address_file.empty()) {
    const auto before = ReadFile(address_file, kAddressBytesMax);
    if (before.ok()) {
      EnvironmentHostOptions same = options;
      same.address = *before;
      auto server = EnvironmentHostServer::Start(same, context, SystemClock());
      if (server.ok()) return server;
      LOG(WARNING) << "not at " << *before << " again: " << server.status();
    }
  }
  return EnvironmentHostServer::Start(options, context, SystemClock());
}

absl::Status Host(const EnvironmentHostOptions& options, int64_t slots,
                  const std::string& address_file) {
  SandboxSupervisorOptions sandbox_options;
  sandbox_options.slots_max = static_cast<uint32_t>(slots);
  // Forks its helper: before gRPC makes threads.
  ASSIGN_OR_RETURN(const auto supervisor,
                   SandboxSupervisor::Start(sandbox_options));
  RETURN_IF_ERROR(InstallStopSignal());
  ASSIGN_OR_RETURN(const auto pool, SandboxPool::Create(supervisor.get()));
  EnvironmentContext context;
  context.sandboxes = pool.get();
  ASSIGN_OR_RETURN(const auto server, Listen(options, address_file, context));
  LOG(INFO) << "environments at " << server->address()
            << "; sandboxes: " << supervisor->slots() << ", "
            << supervisor->description();
  if (!address_file.empty()) {
    RETURN_IF_ERROR(WriteFileDurably(address_file, server->address()));
  }
  // The host ends itself where it can serve no more: `temper train` starts it
  // again, and clients wait for that.
  while (!WaitForStopSignal(kWaitMs)) {
    if (pool->lost()) {
      return absl::UnavailableError(
          supervisor->lost()
              ? "the sandbox helper is gone, so no sandbox can start; start "
                "the host again"
              : "no sandbox can start, for those of all slots do not end; "
                "start the host again");
    }
  }
  server->Stop();
  server->Wait();
  return absl::OkStatus();
}

}  // namespace

int RunEnvHostVerb(int argc, char** argv) {
  EnvironmentHostOptions options;
  int64_t slots = 16;
  int64_t episodes = options.episodes_max;
  int64_t calls = options.calls_max;
  std::string address_file;
  Flags flags("env-host", "Serves episodes of the environments to workers.");
  flags.Text("--address", &options.address,
             "Where to listen, loopback only; port 0, the default: any free "
             "one.");
  flags.Text("--address-file", &address_file,
             "Where to write the address, port resolved. If the file is there "
             "already, its address is tried first.");
  flags.Number("--sandboxes", &slots, 1, 256,
               "Sandboxes at a time; default 16.");
  flags.Number("--episodes", &episodes, 1, 1 << 20,
               "Episodes open at a time, of all workers; default 1024. More "
               "wait.");
  flags.Number("--calls", &calls, 1, 4096,
               "Calls served at a time; default 256. More are refused.");
  if (const auto code = flags.Parse(argc, argv)) return *code;
  options.episodes_max = static_cast<uint32_t>(episodes);
  options.calls_max = static_cast<uint32_t>(calls);
  const absl::Status status = Host(options, slots, address_file);
  return status.ok() ? kExitDone : ReportError("env-host", status);
}

}  // namespace temper
