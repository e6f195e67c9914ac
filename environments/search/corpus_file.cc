#include "environments/search/corpus_file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "environments/search/index_builder.h"
#include "kernels/base/byte_order_mark.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "kernels/base/utf8.h"
#include "nlohmann/json.hpp"

namespace temper {
namespace {

// JSON may write a byte as \u00ff, and has metadata beside the text.
constexpr size_t kLineBytesMax = 8 * kPassageBytesMax;

bool IsBlank(const std::string& line) {
  return line.find_first_not_of(" \t\r") == std::string::npos;
}

}  // namespace

CorpusReader::CorpusReader(const std::string& path, FILE* file,
                           uint64_t bytes_total)
    : path_(path),
      json_(absl::EndsWith(path, ".jsonl")),
      file_(file, &fclose),
      bytes_total_(bytes_total) {}

absl::StatusOr<std::unique_ptr<CorpusReader>> CorpusReader::Open(
    const std::string& path) {
  // Not to wait at a FIFO, which is refused below.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return FileError("open", path, errno);
  FILE* const file = fdopen(fd, "r");
  CHECK(file != nullptr) << path;
  struct stat info = {};
  const int error = fstat(fd, &info) == 0 ? 0 : errno;
  std::unique_ptr<CorpusReader> reader(
      new CorpusReader(path, file, static_cast<uint64_t>(info.st_size)));
  if (error != 0) return FileError("stat", path, error);
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " is not a regular file"));
  }
  return reader;
}

absl::Status CorpusReader::Fault(const std::string& what) const {
  return absl::InvalidArgumentError(
      absl::StrCat(path_, ":", number_, ": ", what));
}

absl::StatusOr<bool> CorpusReader::ReadLine() {
  line_.clear();
  ++number_;
  errno = 0;
  int byte;
  // The lock of each getc would be most of its time; one thread reads.
  while ((byte = getc_unlocked(file_.get())) != EOF && byte != '\n') {
    line_.push_back(static_cast<char>(byte));
    if (line_.size() > kLineBytesMax) {
      return Fault(absl::StrCat("a line of more than ", kLineBytesMax,
                                " bytes; cut the passage into several"));
    }
  }
  if (byte == EOF && ferror(file_.get()) != 0) {
    return FileError("read", path_, errno);
  }
  if (byte == EOF && line_.empty()) return false;
  bytes_read_ += line_.size() + (byte == '\n' ? 1 : 0);
  if (number_ == 1) RETURN_IF_ERROR(RefuseByteOrderMark(line_, path_));
  const size_t valid = ValidUtf8Prefix(line_);
  if (valid < line_.size()) {
    return Fault(absl::StrCat("byte ", valid + 1,
                              " is not UTF-8; convert the file, say with "
                              "iconv"));
  }
  return true;
}

absl::StatusOr<std::optional<CorpusReader::Passage>> CorpusReader::Next() {
  if (!json_) return NextOfText();
  for (;;) {
    ASSIGN_OR_RETURN(const bool more, ReadLine());
    if (!more) return std::optional<Passage>();
    if (IsBlank(line_)) continue;
    ASSIGN_OR_RETURN(Passage passage, Parse());
    return std::optional<Passage>(std::move(passage));
  }
}

absl::StatusOr<std::optional<CorpusReader::Passage>>
CorpusReader::NextOfText() {
  Passage passage;
  for (;;) {
    ASSIGN_OR_RETURN(const bool more, ReadLine());
    const bool blank = !more || IsBlank(line_);
    if (blank && !passage.text.empty()) {
      return std::optional<Passage>(std::move(passage));
    }
    if (!more) return std::optional<Passage>();
    if (blank) continue;
    if (!passage.text.empty()) passage.text += '\n';
    if (line_.back() == '\r') line_.pop_back();
    passage.text += line_;
    if (passage.text.size() > kPassageBytesMax) {
      return Fault(absl::StrCat("a passage of more than ", kPassageBytesMax,
                                " bytes; blank lines separate passages"));
    }
  }
}

absl::StatusOr<CorpusReader::Passage> CorpusReader::Parse() const {
  const auto object =
      nlohmann::json::parse(line_, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) {
    return Fault(
        R"(not a JSON object; a line is {"title": "..", "text": ".."})");
  }
  const char* const key = object.contains("text") ? "text" : "contents";
  if (!object.contains(key) || !object[key].is_string()) {
    return Fault(R"(needs a string "text" or "contents")");
  }
  Passage passage;
  passage.text = object[key].get<std::string>();
  if (object.contains("title")) {
    if (!object["title"].is_string()) return Fault(R"("title" is no string)");
    passage.title = object["title"].get<std::string>();
  }
  if (passage.title.size() + passage.text.size() > kPassageBytesMax) {
    return Fault(absl::StrCat("a passage of ",
                              passage.title.size() + passage.text.size(),
                              " bytes; at most ", kPassageBytesMax,
                              " are allowed: cut it into several"));
  }
  return passage;
}

}  // namespace temper
