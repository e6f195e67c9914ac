#include "rollout/weight_client.h"

#include <pthread.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "zmq.h"

namespace temper {
namespace {

using std::chrono::milliseconds;

constexpr uint64_t kManifestKey = UINT64_MAX;
constexpr int kQueueMax = 64;
constexpr int64_t kIdleMs = 1000;
// Damage on a loopback wire is a bug or a bad machine: one more try.
constexpr int kDamagedMax = 2;

}  // namespace

absl::StatusOr<std::unique_ptr<WeightClient>> WeightClient::Start(
    const WeightClientOptions& options, Callback callback) {
  if (options.chunk_bytes < 1 || options.chunk_bytes > kWeightChunkBytesMax ||
      options.requests_max < 1 || options.requests_max > kQueueMax ||
      options.request_timeout_ms < 1 || options.stall_timeout_ms < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "weight client: chunk_bytes ", options.chunk_bytes, " (1 to ",
        kWeightChunkBytesMax, "), requests_max ", options.requests_max,
        " (1 to ", kQueueMax, "), timeouts ", options.request_timeout_ms,
        " and ", options.stall_timeout_ms, " ms (positive)"));
  }
  std::unique_ptr<WeightClient> client(
      new WeightClient(options, std::move(callback)));
  ASSIGN_OR_RETURN(client->announcements_,
                   ZmqSocket::Create(client->context_, ZMQ_SUB,
                                     kWeightRequestBytesMax, kQueueMax));
  ASSIGN_OR_RETURN(client->chunks_,
                   ZmqSocket::Create(client->context_, ZMQ_DEALER,
                                     kWeightReplyBytesMax, kQueueMax));
  RETURN_IF_ERROR(client->announcements_->Connect(options.announce_endpoint));
  RETURN_IF_ERROR(client->announcements_->Subscribe());
  RETURN_IF_ERROR(client->chunks_->Connect(options.chunk_endpoint));
  client->thread_ = std::thread([raw = client.get()] { raw->Serve(); });
  return client;
}

WeightClient::~WeightClient() {
  {
    MutexLock lock(&mutex_);
    stop_ = true;
  }
  wakeup_.Signal();
  if (thread_.joinable()) thread_.join();
}

void WeightClient::Want(uint64_t version) {
  {
    MutexLock lock(&mutex_);
    wanted_ = version;
  }
  wakeup_.Signal();
}

void WeightClient::Serve() {
  pthread_setname_np(pthread_self(), "weight_client");
  for (;;) {
    {
      MutexLock lock(&mutex_);
      if (stop_) return;
    }
    Time now = std::chrono::steady_clock::now();
    TakeUpWanted(now);
    if (target_ != 0) AskForMore(now);
    ZmqWait({announcements_.get(), chunks_.get()}, &wakeup_, WaitMs(now));
    now = std::chrono::steady_clock::now();
    ReadAnnouncements();
    ReadReplies(now);
    // After the replies were read: what came in the meantime counts.
    if (target_ != 0 && now >= stalls_at_) {
      Fail(absl::DeadlineExceededError(absl::StrCat(
          "weight version ", target_, ": nothing came from ",
          options_.chunk_endpoint, " in ", options_.stall_timeout_ms, " ms")));
    }
  }
}

int64_t WeightClient::WaitMs(Time now) const {
  if (target_ == 0) return kIdleMs;
  Time next = std::min(stalls_at_, now + milliseconds(kIdleMs));
  for (const auto& [key, again_at] : asked_) next = std::min(next, again_at);
  // Rounded down it would wake just before, and spin.
  return std::chrono::duration_cast<milliseconds>(next - now).count() + 1;
}

void WeightClient::TakeUpWanted(Time now) {
  uint64_t wanted;
  {
    MutexLock lock(&mutex_);
    wanted = std::exchange(wanted_, 0);
  }
  if (wanted == 0 || wanted == target_) return;
  // It was delivered already; asked for again (after another stream's welcome),
  // nothing is to be done.
  if (wanted == finished_) {
    target_ = 0;
    return;
  }
  target_ = wanted;
  highest_ = std::max(highest_, wanted);
  damaged_ = 0;
  have_manifest_ = false;
  asked_.clear();
  stalls_at_ = now + milliseconds(options_.stall_timeout_ms);
  // The same version's chunks are kept: a publisher that was away goes on where
  // it stopped.
  if (staging_ != nullptr && staging_->manifest.version() != wanted) {
    DropStaging();
  }
}

void WeightClient::DropStaging() {
  staging_ = nullptr;
  have_chunk_.clear();
  chunks_missing_ = 0;
}

void WeightClient::ReadAnnouncements() {
  for (int i = 0; i < kQueueMax; ++i) {
    const auto parts = announcements_->Receive(1);
    if (!parts.has_value()) return;
    WeightAnnouncement announcement;
    if (!announcement.ParseFromString((*parts)[0]) ||
        announcement.wire_version() != kWeightWireVersion ||
        announcement.run() != options_.run) {
      continue;
    }
    // What was asked for by name is not given up for a hint; the hint comes
    // again.
    if (target_ == 0 && announcement.version() > highest_) {
      MutexLock lock(&mutex_);
      if (wanted_ == 0) wanted_ = announcement.version();
    }
  }
}

void WeightClient::ReadReplies(Time now) {
  for (int i = 0; i < kQueueMax; ++i) {
    const auto parts = chunks_->Receive(1);
    if (!parts.has_value()) return;
    TakeReply((*parts)[0], now);
  }
}

void WeightClient::TakeReply(const std::string& bytes, Time now) {
  WeightReply reply;
  if (!reply.ParseFromString(bytes) ||
      reply.wire_version() != kWeightWireVersion || target_ == 0 ||
      reply.version() != target_) {
    return;  // late, of a version no longer wanted
  }
  if (!reply.error().empty()) {
    Fail(absl::NotFoundError(reply.error()));
  } else if (reply.has_manifest()) {
    TakeManifest(reply.manifest(), now);
  } else {
    TakeChunk(reply, now);
  }
}

void WeightClient::TakeManifest(const WeightManifest& manifest, Time now) {
  if (have_manifest_) return;
  const absl::Status checked =
      CheckWeightManifest(manifest, options_.run, target_, options_.bytes_max);
  if (!checked.ok()) {
    Fail(checked);
    return;
  }
  asked_.erase(kManifestKey);
  have_manifest_ = true;
  stalls_at_ = now + milliseconds(options_.stall_timeout_ms);
  // By the digest, not by the version: a learner that was started again may
  // serve other bytes, and a mix would pass no check until the end.
  const bool resumes =
      staging_ != nullptr && staging_->manifest.sha256() == manifest.sha256() &&
      staging_->manifest.total_bytes() == manifest.total_bytes();
  if (!resumes) {
    DropStaging();
    staging_ = std::make_shared<ReceivedWeights>();
    staging_->bytes.resize(manifest.total_bytes());
    staging_->manifest = manifest;
    have_chunk_.assign(ChunkCount(), false);
    chunks_missing_ = ChunkCount();
  }
  staging_->manifest = manifest;
  next_chunk_ = 0;
}

uint64_t WeightClient::ChunkCount() const {
  return (staging_->manifest.total_bytes() + options_.chunk_bytes - 1) /
         options_.chunk_bytes;
}

uint32_t WeightClient::ChunkSize(uint64_t chunk) const {
  const uint64_t left =
      staging_->manifest.total_bytes() - chunk * options_.chunk_bytes;
  return static_cast<uint32_t>(std::min<uint64_t>(left, options_.chunk_bytes));
}

void WeightClient::TakeChunk(const WeightReply& reply, Time now) {
  const uint64_t chunk = reply.offset() / options_.chunk_bytes;
  if (!have_manifest_ || reply.offset() % options_.chunk_bytes != 0 ||
      // Of an earlier manifest, or nobody's: asked again when its time is up.
      chunk >= ChunkCount() || reply.data().size() != ChunkSize(chunk)) {
    return;
  }
  // An answer to a request that was asked twice comes twice.
  asked_.erase(chunk);
  if (have_chunk_[chunk]) return;
  std::memcpy(staging_->bytes.data() + reply.offset(), reply.data().data(),
              reply.data().size());
  have_chunk_[chunk] = true;
  --chunks_missing_;
  stalls_at_ = now + milliseconds(options_.stall_timeout_ms);
  if (chunks_missing_ == 0) Finish();
}

void WeightClient::AskForMore(Time now) {
  for (auto& [key, again_at] : asked_) {
    if (now >= again_at) Ask(key, now);
  }
  if (!have_manifest_) {
    if (asked_.count(kManifestKey) == 0) Ask(kManifestKey, now);
    return;
  }
  while (static_cast<int>(asked_.size()) < options_.requests_max &&
         next_chunk_ < ChunkCount()) {
    const uint64_t chunk = next_chunk_++;
    if (!have_chunk_[chunk]) Ask(chunk, now);
  }
  // All was here before the publisher went away.
  if (chunks_missing_ == 0) Finish();
}

void WeightClient::Ask(uint64_t key, Time now) {
  WeightRequest request;
  request.set_wire_version(kWeightWireVersion);
  request.set_run(options_.run);
  request.set_version(target_);
  if (key == kManifestKey) {
    request.set_manifest(true);
  } else {
    request.set_offset(key * options_.chunk_bytes);
    request.set_size_bytes(ChunkSize(key));
  }
  // A request that a full queue drops is asked again like a lost one.
  chunks_->Send({request.SerializeAsString()});
  asked_[key] = now + milliseconds(options_.request_timeout_ms);
}

void WeightClient::Finish() {
  const absl::Status verified =
      VerifyWeights(staging_->manifest, staging_->bytes.data());
  if (!verified.ok()) {
    DropStaging();
    have_manifest_ = false;
    asked_.clear();
    if (++damaged_ >= kDamagedMax) Fail(verified);
    return;
  }
  const uint64_t version = target_;
  std::shared_ptr<const ReceivedWeights> weights = std::move(staging_);
  // Before the callback, which may ask for the next.
  DropStaging();
  asked_.clear();
  finished_ = version;
  target_ = 0;
  callback_(version, std::move(weights));
}

void WeightClient::Fail(const absl::Status& status) {
  const uint64_t version = std::exchange(target_, 0);
  asked_.clear();
  callback_(version, status);
}

}  // namespace temper
