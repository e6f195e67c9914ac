#include "learner/intake/weight_publisher.h"

#include <pthread.h>

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/checksum.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "zmq.h"

namespace temper {
namespace {

// A worker that missed the announcement hears the next.
constexpr int64_t kAnnounceIntervalMs = 1000;
constexpr int kQueueMax = 64;
// After so many answers the loop looks at Stop and at announcements again.
constexpr int kAnswersInARow = 64;

}  // namespace

absl::StatusOr<std::unique_ptr<WeightPublisher>> WeightPublisher::Start(
    const WeightPublisherOptions& options) {
  std::unique_ptr<WeightPublisher> publisher(new WeightPublisher(options));
  ASSIGN_OR_RETURN(publisher->announce_,
                   ZmqSocket::Create(publisher->context_, ZMQ_PUB,
                                     kWeightRequestBytesMax, kQueueMax));
  ASSIGN_OR_RETURN(publisher->chunks_,
                   ZmqSocket::Create(publisher->context_, ZMQ_ROUTER,
                                     kWeightRequestBytesMax, kQueueMax));
  RETURN_IF_ERROR(publisher->announce_->Bind(options.announce_address));
  RETURN_IF_ERROR(publisher->chunks_->Bind(options.chunk_address));
  ASSIGN_OR_RETURN(publisher->announce_endpoint_,
                   publisher->announce_->Endpoint());
  ASSIGN_OR_RETURN(publisher->chunk_endpoint_, publisher->chunks_->Endpoint());
  publisher->thread_ = std::thread([raw = publisher.get()] { raw->Serve(); });
  return publisher;
}

WeightPublisher::~WeightPublisher() {
  {
    MutexLock lock(&mutex_);
    stop_ = true;
  }
  wakeup_.Signal();
  if (thread_.joinable()) thread_.join();
}

absl::StatusOr<WeightManifest> WeightPublisher::Publish(
    uint64_t version, const std::vector<PublishedTensor>& tensors,
    std::vector<std::byte> given) {
  auto published = std::make_shared<Version>();
  published->bytes = std::move(given);
  const std::vector<std::byte>& bytes = published->bytes;
  WeightManifest& manifest = published->manifest;
  manifest.set_wire_version(kWeightWireVersion);
  manifest.set_run(options_.run);
  manifest.set_version(version);
  manifest.set_total_bytes(bytes.size());
  // Of the bytes that are served, from the memory that is served: between
  // digest and service nothing touches them.
  manifest.set_sha256(Sha256Of(bytes.data(), bytes.size()));
  uint64_t offset = 0;
  for (const PublishedTensor& tensor : tensors) {
    WeightTensor* out = manifest.add_tensors();
    out->set_name(tensor.name);
    out->set_dtype(tensor.dtype);
    uint64_t size = WeightTypeBytes(tensor.dtype);
    for (const int64_t dimension : tensor.shape) {
      out->add_shape(dimension);
      size *= static_cast<uint64_t>(dimension);
    }
    if (offset + size > manifest.total_bytes()) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor ", tensor.name, " ends at byte ", offset + size,
                       " of weights of ", manifest.total_bytes(), " bytes"));
    }
    out->set_offset(offset);
    out->set_size_bytes(size);
    out->set_crc32c(Crc32c(bytes.data() + offset, size));
    offset += size;
  }
  RETURN_IF_ERROR(
      CheckWeightManifest(manifest, options_.run, version, UINT64_MAX));
  {
    MutexLock lock(&mutex_);
    for (const auto& served : versions_) {
      if (served->manifest.version() != version) continue;
      // A resumed learner publishes its checkpoint's version again, and workers
      // that have it keep it.
      if (served->manifest.sha256() == manifest.sha256()) return manifest;
      return absl::AlreadyExistsError(absl::StrCat(
          "weight version ", version, " is served with other bytes"));
    }
    versions_.push_back(published);
    // Not the newest alone: a worker may be in the middle of the one before.
    // Who still reads one of its chunks holds it by its own reference.
    while (versions_.size() > kVersionsKept) versions_.pop_front();
  }
  wakeup_.Signal();
  return manifest;
}

std::shared_ptr<const WeightPublisher::Version> WeightPublisher::Find(
    uint64_t version) {
  MutexLock lock(&mutex_);
  for (const auto& served : versions_) {
    if (served->manifest.version() == version) return served;
  }
  return nullptr;
}

void WeightPublisher::AnnounceIfDue() {
  WeightAnnouncement announcement;
  {
    MutexLock lock(&mutex_);
    if (versions_.empty()) return;
    announcement.set_version(versions_.back()->manifest.version());
  }
  const auto now = std::chrono::steady_clock::now();
  if (announcement.version() == announced_version_ && now < next_announce_) {
    return;
  }
  announced_version_ = announcement.version();
  next_announce_ = now + std::chrono::milliseconds(kAnnounceIntervalMs);
  announcement.set_wire_version(kWeightWireVersion);
  announcement.set_run(options_.run);
  // A hint that may be lost; the version that a lease names is the truth.
  announce_->Send({announcement.SerializeAsString()});
}

WeightReply WeightPublisher::Answer(const std::string& request_bytes) {
  WeightReply reply;
  reply.set_wire_version(kWeightWireVersion);
  WeightRequest request;
  if (!request.ParseFromString(request_bytes) ||
      request.wire_version() != kWeightWireVersion ||
      request.run() != options_.run) {
    reply.set_error(absl::StrCat("no request of wire version ",
                                 kWeightWireVersion, " to run \"", options_.run,
                                 "\""));
    return reply;
  }
  reply.set_version(request.version());
  reply.set_offset(request.offset());
  const auto version = Find(request.version());
  if (version == nullptr) {
    reply.set_error(absl::StrCat("weight version ", request.version(),
                                 " is not served (any more)"));
    return reply;
  }
  if (request.manifest()) {
    *reply.mutable_manifest() = version->manifest;
    return reply;
  }
  const uint64_t total = version->manifest.total_bytes();
  if (request.size_bytes() < 1 || request.size_bytes() > kWeightChunkBytesMax ||
      request.offset() >= total ||
      request.size_bytes() > total - request.offset()) {
    reply.set_error(absl::StrCat(
        "bytes [", request.offset(), ", +", request.size_bytes(), ") of ",
        total, "; a chunk has at most ", kWeightChunkBytesMax));
    return reply;
  }
  reply.set_data(
      reinterpret_cast<const char*>(version->bytes.data()) + request.offset(),
      request.size_bytes());
  return reply;
}

void WeightPublisher::Serve() {
  pthread_setname_np(pthread_self(), "weight_publish");
  for (;;) {
    AnnounceIfDue();
    ZmqWait({chunks_.get()}, &wakeup_, kAnnounceIntervalMs);
    bool serving;
    {
      MutexLock lock(&mutex_);
      if (stop_) return;
      serving = !versions_.empty();
    }
    for (int i = 0; i < kAnswersInARow; ++i) {
      auto parts = chunks_->Receive(2);
      if (!parts.has_value()) break;
      // A ROUTER's first part is who asks. Two make a request; nothing else is
      // answered.
      if (parts->size() != 2 || !serving) continue;
      // A full queue or a gone peer loses the answer; the client asks again.
      chunks_->Send({(*parts)[0], Answer((*parts)[1]).SerializeAsString()});
    }
  }
}

}  // namespace temper
