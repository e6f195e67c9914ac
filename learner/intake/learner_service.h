// The gRPC face of the learner (proto/learner.proto): hands out the broker's
// leases, takes trajectories in, tells workers of weight versions. One stream a
// worker; one that says nothing, from its hello on, or that reads nothing of
// what it is sent for `heartbeat_deadline_ms` is cut off within an eighth more,
// and its leases return. A stream has `hello_deadline_ms` for its hello.
// Streams above `streams_max`, those without a hello included, are refused as
// ResourceExhausted.
//
// Thread-safe. The destructor ends every stream; the observer and the broker
// must outlive the service.

#ifndef LEARNER_INTAKE_LEARNER_SERVICE_H_
#define LEARNER_INTAKE_LEARNER_SERVICE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "learner/intake/lease_broker.h"
#include "learner/intake/worker_observer.h"
#include "proto/learner.pb.h"

namespace temper {

struct LearnerServiceOptions {
  std::string address = "127.0.0.1:0";  // loopback only
  int64_t heartbeat_interval_ms = 2000;
  int64_t heartbeat_deadline_ms = 30000;
  int64_t hello_deadline_ms = 5000;
  // Each has a thread. A few more than there may be workers: those whose hello
  // is under way, and those that are told that they are too many.
  int streams_max = LeaseBroker::kWorkersMax + 64;
};

class LearnerService {
 public:
  virtual ~LearnerService() = default;

  // `welcome` is what each worker is told (weight_version is kept up to date by
  // Publish). InvalidArgument for an address that is not loopback: that needs
  // mTLS, which does not exist yet. Unavailable if the address is taken.
  static absl::StatusOr<std::unique_ptr<LearnerService>> Start(
      const LearnerServiceOptions& options, const LearnerWelcome& welcome,
      LeaseBroker* broker, WorkerObserver* observer);

  virtual int port() const = 0;

  // Tells every worker, present and to come, that `version` is out.
  virtual void Publish(uint64_t version) = 0;

  // So many trajectories may be on their way in one stream, sent and not
  // committed: a worker begins one on a credit, and each commit grants the
  // next. Below TrajectoryAssembler::kOpenMax.
  static constexpr uint32_t kCredits = 16;

  // Asks every worker to finish; those that do leave the broker.
  virtual void AskToFinish(const std::string& reason) = 0;
};

}  // namespace temper

#endif  // LEARNER_INTAKE_LEARNER_SERVICE_H_
