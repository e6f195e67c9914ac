#include "proto/wire/trajectory_stream.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "kernels/base/checksum.h"
#include "kernels/base/status_macros.h"

namespace temper {
namespace {

// Without the lease: of one sample only one copy is under way in a stream, and
// a new header begins it again.
std::pair<uint64_t, uint32_t> IdOf(const TrajectoryKey& key) {
  return {key.group(), key.sample()};
}

std::string Name(const TrajectoryKey& key) {
  return absl::StrCat("trajectory (group ", key.group(), ", sample ",
                      key.sample(), ")");
}

}  // namespace

absl::Status SendTrajectory(
    const Trajectory& trajectory,
    const std::function<absl::Status(const WorkerMessage&)>& send) {
  const std::string bytes = trajectory.SerializeAsString();
  const auto size = static_cast<int64_t>(bytes.size());
  if (size > kTrajectoryBytesMax) {
    return absl::ResourceExhaustedError(
        absl::StrCat(Name(trajectory.key()), " has ", size,
                     " bytes; the limit is ", kTrajectoryBytesMax));
  }
  WorkerMessage message;
  *message.mutable_header()->mutable_key() = trajectory.key();
  message.mutable_header()->set_size_bytes(bytes.size());
  RETURN_IF_ERROR(send(message));
  // In pieces: one message of the whole would stand before every heartbeat
  // behind it.
  for (int64_t offset = 0; offset < size; offset += kChunkBytes) {
    message.Clear();
    *message.mutable_chunk()->mutable_key() = trajectory.key();
    message.mutable_chunk()->set_offset(static_cast<uint64_t>(offset));
    message.mutable_chunk()->set_data(bytes.substr(offset, kChunkBytes));
    RETURN_IF_ERROR(send(message));
  }
  message.Clear();
  *message.mutable_end()->mutable_key() = trajectory.key();
  // Of the bytes, not of the message: serialising again need not give the same.
  message.mutable_end()->set_sha256(Sha256Of(bytes));
  return send(message);
}

absl::Status TrajectoryAssembler::Header(const TrajectoryHeader& header) {
  // Before any memory is taken for it.
  if (header.size_bytes() > static_cast<uint64_t>(kTrajectoryBytesMax)) {
    return absl::ResourceExhaustedError(
        absl::StrCat(Name(header.key()), " announces ", header.size_bytes(),
                     " bytes; the limit is ", kTrajectoryBytesMax));
  }
  if (open_.size() >= static_cast<size_t>(kOpenMax) &&
      open_.count(IdOf(header.key())) == 0) {
    return absl::ResourceExhaustedError(
        absl::StrCat(Name(header.key()), " is one more than the ", kOpenMax,
                     " that one stream may have under way; end one first"));
  }
  open_[IdOf(header.key())] = Open{header.size_bytes(), ""};
  return absl::OkStatus();
}

absl::Status TrajectoryAssembler::Chunk(const TrajectoryChunk& chunk) {
  const auto it = open_.find(IdOf(chunk.key()));
  if (it == open_.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat(Name(chunk.key()), " sent a chunk without a header"));
  }
  Open& open = it->second;
  const uint64_t after = open.bytes.size() + chunk.data().size();
  if (chunk.offset() != open.bytes.size() || after > open.size ||
      chunk.data().size() > static_cast<size_t>(kChunkBytes)) {
    const absl::Status status = absl::InvalidArgumentError(absl::StrCat(
        Name(chunk.key()), " sent ", chunk.data().size(), " bytes at ",
        chunk.offset(), " after ", open.bytes.size(), " of ", open.size));
    open_.erase(it);
    return status;
  }
  open.bytes += chunk.data();
  return absl::OkStatus();
}

absl::StatusOr<std::string> TrajectoryAssembler::End(const TrajectoryEnd& end) {
  const auto it = open_.find(IdOf(end.key()));
  if (it == open_.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat(Name(end.key()), " ended without a header"));
  }
  Open open = std::move(it->second);
  open_.erase(it);
  if (open.bytes.size() != open.size || Sha256Of(open.bytes) != end.sha256()) {
    return absl::DataLossError(
        absl::StrCat(Name(end.key()), " arrived damaged: ", open.bytes.size(),
                     " of ", open.size, " bytes, or another SHA-256"));
  }
  return std::move(open.bytes);
}

}  // namespace temper
