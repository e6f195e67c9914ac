// Serves episodes of the registered environments to other processes: service
// EnvironmentHost of proto/environment.proto, and grpc.health.v1.

#ifndef ENVIRONMENTS_ENVIRONMENT_HOST_H_
#define ENVIRONMENTS_ENVIRONMENT_HOST_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "environments/environment.h"
#include "grpcpp/server.h"
#include "kernels/base/clock.h"

namespace temper {

inline constexpr uint32_t kEnvironmentWireVersion = 2;
// Of a request or a reply. Above what an episode's texts add up to.
inline constexpr uint32_t kEnvironmentMessageBytesMax = 16 << 20;

struct EnvironmentHostOptions {
  // Loopback only, until transport security exists. Port 0: any free one.
  std::string address = "127.0.0.1:0";
  // Of all clients together; to be above what they open at a time, with room
  // for what a client that died leaves until client_silence_max.
  uint32_t episodes_max = 1024;
  // Served at a time, beside Describe, Hold and Close, which take no time; more
  // are ResourceExhausted.
  uint32_t calls_max = 256;
  // The episodes of a client that said nothing for so long, and of which no
  // call runs, are closed.
  std::chrono::seconds client_silence_max{60};
};

// Threads are gRPC's; calls of different episodes run at once. The host must
// start after the sandbox supervisor (sandbox_supervisor.h).
//
// Calls are refused with
//   InvalidArgument     no deadline, a bad task, an unknown environment;
//   ResourceExhausted   calls_max are running;
//   FailedPrecondition  another wire version; another call of the same episode
//                       is running;
//   Unavailable         episodes_max are open, for now; or the episode is not
//                       here: its client was silent, or the host restarted.
// An episode's own errors are passed on and close it.
class EnvironmentHostServer {
 public:
  // Listens. InvalidArgument for an address that is not loopback, Unavailable
  // if it cannot be bound. What `context` has, and `clock`, are borrowed.
  static absl::StatusOr<std::unique_ptr<EnvironmentHostServer>> Start(
      const EnvironmentHostOptions& options, const EnvironmentContext& context,
      Clock* clock);

  // Stop() and wait.
  ~EnvironmentHostServer();

  // Where it listens, port resolved.
  const std::string& address() const { return address_; }

  // Refuses new calls. A running one's client is told after a second that it is
  // cancelled; the call itself goes on, and is waited for here.
  void Stop();
  // Returns when stopped.
  void Wait();

 private:
  class Service;

  EnvironmentHostServer();

  // Constant after Start.
  std::unique_ptr<Service> service_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
};

}  // namespace temper

#endif  // ENVIRONMENTS_ENVIRONMENT_HOST_H_
