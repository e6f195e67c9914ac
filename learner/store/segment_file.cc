#include "learner/store/segment_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "kernels/base/checksum.h"
#include "kernels/base/file.h"
#include "kernels/base/status_macros.h"

namespace temper {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr char kFileMagic[] = "TMPRSEG1";
constexpr size_t kFileMagicBytes = 8;
constexpr uint32_t kRecordMagic = 0x31434552;  // "REC1"
constexpr size_t kRecordHeaderBytes = 16;
constexpr uint64_t kRecordLimitBytes = uint64_t{1} << 32;

struct RecordHeader {
  uint32_t magic;
  uint32_t crc;
  uint64_t size;
};
static_assert(sizeof(RecordHeader) == kRecordHeaderBytes);

// The size is in the sum: one that was damaged must not say where the record
// ends.
uint32_t RecordCrc(uint64_t size, const char* payload) {
  return Crc32c(payload, size, Crc32c(&size, sizeof(size)));
}

}  // namespace

std::string SegmentPath(const std::string& directory, uint32_t file) {
  char name[32];
  std::snprintf(name, sizeof(name), "%06u.seg", file);
  return absl::StrCat(directory, "/", name);
}

absl::StatusOr<std::unique_ptr<SegmentWriter>> SegmentWriter::Create(
    const std::string& directory, uint64_t file_limit_bytes) {
  RETURN_IF_ERROR(MakeDirectories(directory));
  RETURN_IF_ERROR(SyncPath(ParentOf(directory)));
  ASSIGN_OR_RETURN(const std::vector<std::string> names,
                   ListDirectory(directory));
  // A file of an earlier process is never written to again: its end may be
  // torn, and what is behind a torn record could not be found.
  uint32_t last = 0;
  for (const std::string& name : names) {
    unsigned file = 0;
    if (std::sscanf(name.c_str(), "%u.seg", &file) == 1) {
      last = std::max<uint32_t>(last, file);
    }
  }
  return std::unique_ptr<SegmentWriter>(
      new SegmentWriter(directory, file_limit_bytes, last));
}

SegmentWriter::~SegmentWriter() { CloseFile(); }

void SegmentWriter::CloseFile() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

absl::Status SegmentWriter::StartFile() {
  ++file_;
  const std::string path = SegmentPath(directory_, file_);
  // O_EXCL: a file that is there holds records that rows point to.
  fd_ = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd_ < 0) return FileError("create", path, errno);
  RETURN_IF_ERROR(WriteAll(fd_, kFileMagic, kFileMagicBytes, path));
  end_ = kFileMagicBytes;
  // The name too must be durable before a row says it.
  return SyncPath(directory_);
}

absl::StatusOr<SegmentRef> SegmentWriter::Append(const std::string& payload) {
  if (payload.size() > kRecordLimitBytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("a segment record of ", payload.size(),
                     " bytes exceeds the limit of ", kRecordLimitBytes));
  }
  if (fd_ >= 0 && end_ >= file_limit_bytes_) CloseFile();
  if (fd_ < 0) {
    const absl::Status started = StartFile();
    if (!started.ok()) {
      CloseFile();
      return started;
    }
  }
  const std::string path = SegmentPath(directory_, file_);
  const RecordHeader header{
      kRecordMagic, RecordCrc(payload.size(), payload.data()), payload.size()};
  // Header and payload in one write: fewer ways to be torn.
  std::string record(reinterpret_cast<const char*>(&header), sizeof(header));
  record += payload;
  absl::Status status = WriteAll(fd_, record.data(), record.size(), path);
  // Before the row that points here is committed: the ack says both are
  // durable.
  if (status.ok() && fdatasync(fd_) != 0) {
    status = FileError("fsync", path, errno);
  }
  if (!status.ok()) {
    // After a failed write or fsync what is on the disk is unknown.
    CloseFile();
    return status;
  }
  const SegmentRef ref{file_, end_, payload.size(), header.crc};
  end_ += record.size();
  return ref;
}

absl::StatusOr<std::string> ReadSegment(const std::string& directory,
                                        const SegmentRef& ref) {
  const std::string path = SegmentPath(directory, ref.file);
  if (ref.size > kRecordLimitBytes) {
    return absl::DataLossError(
        absl::StrCat(path, ": the pointer says ", ref.size,
                     " bytes, above the limit of ", kRecordLimitBytes));
  }
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return FileError("open", path, errno);
  std::string record(kRecordHeaderBytes + ref.size, '\0');
  size_t done = 0;
  ssize_t got = 1;
  while (done < record.size() && got > 0) {
    got = pread(fd, record.data() + done, record.size() - done,
                static_cast<off_t>(ref.offset + done));
    // A signal is no end of the file.
    if (got < 0 && errno == EINTR) {
      got = 1;
    } else if (got > 0) {
      done += static_cast<size_t>(got);
    }
  }
  close(fd);
  RecordHeader header;
  std::memcpy(&header, record.data(), sizeof(header));
  if (done != record.size() || header.magic != kRecordMagic ||
      header.size != ref.size || header.crc != ref.crc ||
      RecordCrc(ref.size, record.data() + sizeof(header)) != ref.crc) {
    return absl::DataLossError(
        absl::StrCat(path, ": the record at offset ", ref.offset,
                     " is not the one that was written"));
  }
  return record.substr(kRecordHeaderBytes);
}

}  // namespace temper
