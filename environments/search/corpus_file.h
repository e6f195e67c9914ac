// Reads a corpus, passage after passage, from a file of any size.
//
//   *.jsonl      a JSON object a line: "text" or "contents", a string, is the
//                passage; "title", a string, may be there. Other members (an
//                id, metadata) are not looked at: a model never sees them.
//   other names  text; blank lines separate passages, which have no title
//
// UTF-8. One line is in memory, or of text one passage. Not thread-safe.

#ifndef ENVIRONMENTS_SEARCH_CORPUS_FILE_H_
#define ENVIRONMENTS_SEARCH_CORPUS_FILE_H_

#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"

namespace temper {

class CorpusReader {
 public:
  struct Passage {
    std::string title;  // may be empty
    std::string text;
  };

  // Errors as ReadFile's (kernels/base/file.h).
  static absl::StatusOr<std::unique_ptr<CorpusReader>> Open(
      const std::string& path);

  // The next passage, none at the end. InvalidArgument, begun with
  // "PATH:LINE: ", for what is none, or has more than kPassageBytesMax
  // (index_builder.h); nothing can be read after an error.
  absl::StatusOr<std::optional<Passage>> Next();

  uint64_t bytes_read() const { return bytes_read_; }
  uint64_t bytes_total() const { return bytes_total_; }

 private:
  CorpusReader(const std::string& path, FILE* file, uint64_t bytes_total);
  // Into line_, without its end; false at the end of the file.
  absl::StatusOr<bool> ReadLine();
  absl::StatusOr<std::optional<Passage>> NextOfText();
  absl::StatusOr<Passage> Parse() const;
  absl::Status Fault(const std::string& what) const;

  const std::string path_;
  const bool json_;
  const std::unique_ptr<FILE, int (*)(FILE*)> file_;
  const uint64_t bytes_total_;
  uint64_t bytes_read_ = 0;
  uint64_t number_ = 0;  // of line_
  std::string line_;
};

}  // namespace temper

#endif  // ENVIRONMENTS_SEARCH_CORPUS_FILE_H_
