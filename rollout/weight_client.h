// Receives weight versions from the learner (learner/intake/weight_publisher.h,
// by proto/weights.proto): asks for a version's manifest and chunks, several at
// a time, asks again for what is lost, checks every tensor and the whole, and
// only then hands the version to the callback. When to sample from it is the
// engine's business.
//
// What was received of a version is kept while the publisher is gone (or comes
// back on the same address): the transfer goes on where it stopped, if the
// manifest is the same. One thread owns the sockets and calls the callback; it
// is joined by the destructor. Thread-safe.

#ifndef ROLLOUT_WEIGHT_CLIENT_H_
#define ROLLOUT_WEIGHT_CLIENT_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/mutex.h"
#include "proto/weights.pb.h"
#include "proto/wire/weight_wire.h"
#include "proto/wire/zmq_socket.h"

namespace temper {

struct WeightClientOptions {
  std::string run;
  std::string announce_endpoint;            // tcp://127.0.0.1:port
  std::string chunk_endpoint;               // tcp://127.0.0.1:port
  uint64_t bytes_max = uint64_t{16} << 30;  // of one version
  uint32_t chunk_bytes = kWeightChunkBytesMax;
  int requests_max = 8;               // unanswered at a time
  int64_t request_timeout_ms = 2000;  // then it is asked again
  int64_t stall_timeout_ms = 30'000;  // without progress: an error
};

// A whole, verified version.
struct ReceivedWeights {
  WeightManifest manifest;
  std::vector<std::byte> bytes;  // of all tensors, in the manifest's order
};

class WeightClient {
 public:
  // Gets each version once it is whole, or why it will not be: NotFound (the
  // learner serves it no more), DeadlineExceeded (no progress), DataLoss,
  // InvalidArgument. Called on the client's thread; may call Want.
  using Callback = std::function<void(
      uint64_t version,
      absl::StatusOr<std::shared_ptr<const ReceivedWeights>> weights)>;

  static absl::StatusOr<std::unique_ptr<WeightClient>> Start(
      const WeightClientOptions& options, Callback callback);
  ~WeightClient();
  WeightClient(const WeightClient&) = delete;
  WeightClient& operator=(const WeightClient&) = delete;

  // Receives `version` (one that a lease, welcome or update names), in place
  // of any other that is under way. The version last handed over is not
  // received again. While nothing is under way, the announcement of a version
  // higher than any before does the same.
  void Want(uint64_t version);

 private:
  using Time = std::chrono::steady_clock::time_point;

  WeightClient(const WeightClientOptions& options, Callback callback)
      : options_(options), callback_(std::move(callback)) {}
  void Serve();
  // All below: of the client's thread.
  void TakeUpWanted(Time now);
  void ReadAnnouncements();
  void ReadReplies(Time now);
  void TakeReply(const std::string& bytes, Time now);
  void TakeManifest(const WeightManifest& manifest, Time now);
  void TakeChunk(const WeightReply& reply, Time now);
  void AskForMore(Time now);
  void Ask(uint64_t key, Time now);
  void Finish();
  void Fail(const absl::Status& status);
  void DropStaging();
  uint64_t ChunkCount() const;
  uint32_t ChunkSize(uint64_t chunk) const;
  int64_t WaitMs(Time now) const;

  const WeightClientOptions options_;
  const Callback callback_;
  Wakeup wakeup_;
  ZmqContext context_;
  std::unique_ptr<ZmqSocket> announcements_;
  std::unique_ptr<ZmqSocket> chunks_;

  // Of the client's thread. target_ 0: nothing is under way.
  uint64_t target_ = 0;
  uint64_t finished_ = 0;
  uint64_t highest_ = 0;        // version ever taken up
  int damaged_ = 0;             // times the target arrived damaged
  bool have_manifest_ = false;  // confirmed since the target was taken up
  Time stalls_at_;
  std::shared_ptr<ReceivedWeights> staging_;  // of staging_->manifest.version()
  std::vector<bool> have_chunk_;
  uint64_t chunks_missing_ = 0;
  uint64_t next_chunk_ = 0;         // never asked for, from here on
  std::map<uint64_t, Time> asked_;  // chunk (or kManifestKey) -> ask again at

  Mutex mutex_;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t wanted_ ABSL_GUARDED_BY(mutex_) = 0;  // 0: nothing new

  std::thread thread_;
};

}  // namespace temper

#endif  // ROLLOUT_WEIGHT_CLIENT_H_
