// Serves weight versions to workers over ZeroMQ (proto/weights.proto): a PUB
// socket says that a version is out (a hint, repeated), a ROUTER socket answers
// requests for its manifest and for chunks of at most 1 MiB. Requests carry
// their place, so a client resumes where it stopped, and any may be lost: the
// client asks again.
//
// The last kVersionsKept versions are served; others are answered with an
// error. Before the first Publish requests are left unanswered: the learner is
// not ready, and the client asks again. Loopback only. One thread owns the
// sockets; it is joined by the destructor. Thread-safe.

#ifndef LEARNER_INTAKE_WEIGHT_PUBLISHER_H_
#define LEARNER_INTAKE_WEIGHT_PUBLISHER_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/mutex.h"
#include "proto/weights.pb.h"
#include "proto/wire/weight_wire.h"
#include "proto/wire/zmq_socket.h"

namespace temper {

struct WeightPublisherOptions {
  std::string run;
  std::string announce_address = "tcp://127.0.0.1:*";
  std::string chunk_address = "tcp://127.0.0.1:*";
};

// A tensor of a version, in the order of its bytes.
struct PublishedTensor {
  std::string name;   // Hugging Face checkpoint name
  std::string dtype;  // F32 | BF16 | F8_E4M3
  std::vector<int64_t> shape;
};

class WeightPublisher {
 public:
  // InvalidArgument for an address that is not loopback; Unavailable for one
  // that is taken.
  static absl::StatusOr<std::unique_ptr<WeightPublisher>> Start(
      const WeightPublisherOptions& options);
  ~WeightPublisher();
  WeightPublisher(const WeightPublisher&) = delete;
  WeightPublisher& operator=(const WeightPublisher&) = delete;

  // Takes the bytes of all tensors, in order, checksums and serves them as
  // `version`: until it returns, kVersionsKept + 1 versions are held.
  // InvalidArgument if the sizes differ, a type is not known or a shape is
  // empty; AlreadyExists for a version served with other bytes.
  absl::StatusOr<WeightManifest> Publish(
      uint64_t version, const std::vector<PublishedTensor>& tensors,
      std::vector<std::byte> bytes);

  // What to connect to: tcp://127.0.0.1:port.
  const std::string& announce_endpoint() const { return announce_endpoint_; }
  const std::string& chunk_endpoint() const { return chunk_endpoint_; }

  static constexpr size_t kVersionsKept = 2;

 private:
  struct Version {
    WeightManifest manifest;
    std::vector<std::byte> bytes;
  };

  explicit WeightPublisher(const WeightPublisherOptions& options)
      : options_(options) {}
  void Serve();
  void AnnounceIfDue();
  WeightReply Answer(const std::string& request_bytes);
  std::shared_ptr<const Version> Find(uint64_t version);

  const WeightPublisherOptions options_;
  std::string announce_endpoint_;  // constant after Start
  std::string chunk_endpoint_;     // constant after Start
  Wakeup wakeup_;

  // Of the serving thread.
  ZmqContext context_;
  std::unique_ptr<ZmqSocket> announce_;
  std::unique_ptr<ZmqSocket> chunks_;
  uint64_t announced_version_ = 0;
  std::chrono::steady_clock::time_point next_announce_;

  Mutex mutex_;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<std::shared_ptr<const Version>> versions_ ABSL_GUARDED_BY(mutex_);

  std::thread thread_;
};

}  // namespace temper

#endif  // LEARNER_INTAKE_WEIGHT_PUBLISHER_H_
