// Append-only files of checksummed records: the bulk of a trajectory (routes,
// kept sets) that run.db points to. A file is <directory>/NNNNNN.seg:
//
//   file   = "TMPRSEG1" record*
//   record = u32 magic, u32 crc32c(size, payload), u64 size, payload
//
// little-endian. A writer never touches a file that was there before it, so a
// torn tail from a crash stays where nothing points and needs no repair.

#ifndef LEARNER_STORE_SEGMENT_FILE_H_
#define LEARNER_STORE_SEGMENT_FILE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace temper {

// Where a record is. `crc` repeats the record's checksum, so that a pointer
// to the wrong record is noticed too.
struct SegmentRef {
  uint32_t file = 0;
  uint64_t offset = 0;  // of the record
  uint64_t size = 0;    // of the payload
  uint32_t crc = 0;
};

// One writer a directory; not thread-safe.
class SegmentWriter {
 public:
  // Starts the file after the highest there is in `directory`, which it makes
  // if missing. A file that reaches `file_limit_bytes` is followed by another.
  static absl::StatusOr<std::unique_ptr<SegmentWriter>> Create(
      const std::string& directory, uint64_t file_limit_bytes);
  ~SegmentWriter();
  SegmentWriter(const SegmentWriter&) = delete;
  SegmentWriter& operator=(const SegmentWriter&) = delete;

  // Appends and syncs one record: durable when it returns. On failure the
  // file is abandoned (the next Append starts another), and nothing before it
  // is harmed.
  absl::StatusOr<SegmentRef> Append(const std::string& payload);

 private:
  SegmentWriter(std::string directory, uint64_t file_limit_bytes,
                uint32_t last_file)
      : directory_(std::move(directory)),
        file_limit_bytes_(file_limit_bytes),
        file_(last_file) {}
  absl::Status StartFile();
  void CloseFile();

  const std::string directory_;
  const uint64_t file_limit_bytes_;
  uint32_t file_;
  int fd_ = -1;
  uint64_t end_ = 0;
};

// The payload at `ref`; DataLoss if its bytes are not those that were written,
// NotFound if the file is gone. Thread-safe.
absl::StatusOr<std::string> ReadSegment(const std::string& directory,
                                        const SegmentRef& ref);

// <directory>/NNNNNN.seg
std::string SegmentPath(const std::string& directory, uint32_t file);

}  // namespace temper

#endif  // LEARNER_STORE_SEGMENT_FILE_H_
