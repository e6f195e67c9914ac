#include "environments/search/index_builder.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "environments/search/bm25.h"
#include "environments/search/words.h"
#include "kernels/base/checksum.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"

namespace temper {
namespace {

constexpr size_t kSpillBufferWords = 1 << 18;
constexpr size_t kUnwrittenBytesMax = 1 << 20;
constexpr uint64_t kPostingBytes = sizeof(uint32_t) + sizeof(float);
// Passages between two looks at the clock of whoever shows progress.
constexpr uint64_t kPassagesPerSign = 4096;

absl::Status TooMany(const std::string& path, const std::string& what) {
  return absl::ResourceExhaustedError(
      absl::StrCat(path, ": an index has at most ", UINT32_MAX, " ", what,
                   "; make several of smaller corpora"));
}

}  // namespace

// What a passage has of each word, passage after passage: how many words, then
// for each its id and how often it stands there. In a file without a name, so
// that nothing is left of it however the process ends.
class IndexBuilder::Spill {
 public:
  static absl::StatusOr<std::unique_ptr<Spill>> Create(
      const std::string& beside) {
    const std::string path = absl::StrCat(beside, ".postings.", getpid());
    const int fd =
        open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) return FileError("create", path, errno);
    std::unique_ptr<Spill> spill(new Spill(path, fd));
    if (unlink(path.c_str()) != 0) return FileError("remove", path, errno);
    return spill;
  }
  ~Spill() { close(fd_); }

  absl::Status Put(uint32_t value) {
    buffer_.push_back(value);
    if (buffer_.size() < kSpillBufferWords) return absl::OkStatus();
    return Flush();
  }

  absl::Status Flush() {
    RETURN_IF_ERROR(WriteAll(fd_, buffer_.data(),
                             buffer_.size() * sizeof(uint32_t), path_));
    buffer_.clear();
    return absl::OkStatus();
  }

  // From here on Get gives what was put, from the first on.
  absl::Status Rewind() {
    RETURN_IF_ERROR(Flush());
    if (lseek(fd_, 0, SEEK_SET) != 0) return FileError("seek", path_, errno);
    next_ = 0;
    return absl::OkStatus();
  }

  absl::StatusOr<uint32_t> Get() {
    if (next_ == buffer_.size()) RETURN_IF_ERROR(Fill());
    return buffer_[next_++];
  }

 private:
  Spill(const std::string& path, int fd) : path_(path), fd_(fd) {}

  absl::Status Fill() {
    buffer_.resize(kSpillBufferWords);
    size_t done = 0;
    const size_t bytes = buffer_.size() * sizeof(uint32_t);
    while (done < bytes) {
      const ssize_t got = read(
          fd_, reinterpret_cast<char*>(buffer_.data()) + done, bytes - done);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return FileError("read", path_, errno);
      if (got == 0) break;
      done += static_cast<size_t>(got);
    }
    buffer_.resize(done / sizeof(uint32_t));
    next_ = 0;
    if (!buffer_.empty()) return absl::OkStatus();
    return absl::DataLossError(absl::StrCat(path_, " ends early"));
  }

  const std::string path_;
  const int fd_;
  std::vector<uint32_t> buffer_;
  size_t next_ = 0;
};

IndexBuilder::IndexBuilder(const std::string& path,
                           const IndexBuilderOptions& options)
    : path_(path), options_(options) {}

IndexBuilder::~IndexBuilder() = default;

absl::StatusOr<std::unique_ptr<IndexBuilder>> IndexBuilder::Create(
    const std::string& path, const IndexBuilderOptions& options) {
  std::unique_ptr<IndexBuilder> builder(new IndexBuilder(path, options));
  ASSIGN_OR_RETURN(builder->file_, DurableFile::Create(path));
  ASSIGN_OR_RETURN(builder->spill_, Spill::Create(path));
  IndexHeader header = {};
  std::memcpy(header.magic, kIndexMagic, sizeof(kIndexMagic));
  header.version = kIndexVersion;
  builder->trailer_.crc32c = Crc32c(&header, sizeof(header));
  RETURN_IF_ERROR(builder->file_->Append(&header, sizeof(header)));
  builder->file_bytes_ = sizeof(header);
  builder->BeginSection(kTexts);
  return builder;
}

void IndexBuilder::BeginSection(IndexSection section) {
  section_ = section;
  const uint64_t beyond = file_bytes_ % kIndexAlignment;
  const uint64_t padding = beyond == 0 ? 0 : kIndexAlignment - beyond;
  unwritten_.append(padding, '\0');
  file_bytes_ += padding;
  trailer_.sections[section_].offset = file_bytes_;
}

absl::Status IndexBuilder::Append(const void* data, uint64_t bytes) {
  IndexTrailer::Section& section = trailer_.sections[section_];
  section.crc32c = Crc32c(data, bytes, section.crc32c);
  section.bytes += bytes;
  file_bytes_ += bytes;
  if (unwritten_.size() + bytes > kUnwrittenBytesMax) {
    RETURN_IF_ERROR(WriteOut());
  }
  if (bytes > kUnwrittenBytesMax) return file_->Append(data, bytes);
  unwritten_.append(static_cast<const char*>(data), bytes);
  return absl::OkStatus();
}

absl::Status IndexBuilder::WriteOut() {
  RETURN_IF_ERROR(file_->Append(unwritten_.data(), unwritten_.size()));
  unwritten_.clear();
  return absl::OkStatus();
}

absl::Status IndexBuilder::Add(std::string_view title, std::string_view text) {
  if (title.size() + text.size() > kPassageBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a passage of ", title.size() + text.size(), " bytes; at most ",
        kPassageBytesMax, " are allowed: cut it into several"));
  }
  if (passages_.size() == UINT32_MAX) return TooMany(path_, "passages");
  passages_.push_back({.title = trailer_.sections[kTexts].bytes,
                       .title_bytes = static_cast<uint32_t>(title.size()),
                       .text_bytes = static_cast<uint32_t>(text.size())});
  RETURN_IF_ERROR(Append(title.data(), title.size()));
  RETURN_IF_ERROR(Append(text.data(), text.size()));
  passage_words_.clear();
  RETURN_IF_ERROR(CountWords(title));
  RETURN_IF_ERROR(CountWords(text));
  lengths_.push_back(static_cast<uint32_t>(passage_words_.size()));
  tokens_ += passage_words_.size();
  std::sort(passage_words_.begin(), passage_words_.end());
  const uint64_t before = postings_;
  for (size_t i = 0; i < passage_words_.size(); ++i) {
    if (i == 0 || passage_words_[i] != passage_words_[i - 1]) ++postings_;
  }
  RETURN_IF_ERROR(spill_->Put(static_cast<uint32_t>(postings_ - before)));
  for (size_t i = 0; i < passage_words_.size();) {
    const uint32_t word = passage_words_[i];
    uint32_t frequency = 0;
    while (i < passage_words_.size() && passage_words_[i] == word) {
      ++frequency;
      ++i;
    }
    ++counts_[word];
    RETURN_IF_ERROR(spill_->Put(word));
    RETURN_IF_ERROR(spill_->Put(frequency));
  }
  return absl::OkStatus();
}

absl::Status IndexBuilder::CountWords(std::string_view text) {
  for (WordReader reader(text); reader.Next();) {
    if (counts_.size() == UINT32_MAX) return TooMany(path_, "distinct words");
    const auto [found, inserted] =
        ids_.try_emplace(reader.word(), static_cast<uint32_t>(counts_.size()));
    if (inserted) counts_.push_back(0);
    passage_words_.push_back(found->second);
  }
  return absl::OkStatus();
}

absl::Status IndexBuilder::Finish() {
  if (passages_.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path_, ": the corpus has no passage"));
  }
  BeginSection(kPassages);
  RETURN_IF_ERROR(
      Append(passages_.data(), passages_.size() * sizeof(IndexPassage)));
  const std::vector<uint32_t> order = WordsBySpelling();
  BeginSection(kPostings);
  RETURN_IF_ERROR(WritePostings(order));
  RETURN_IF_ERROR(WriteWords(order));
  RETURN_IF_ERROR(WriteTrailer());
  return file_->Commit();
}

std::vector<uint32_t> IndexBuilder::WordsBySpelling() const {
  std::vector<std::string_view> spellings(ids_.size());
  for (const auto& [word, id] : ids_) spellings[id] = word;
  std::vector<uint32_t> order(ids_.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    return spellings[a] < spellings[b];
  });
  return order;
}

absl::Status IndexBuilder::WritePostings(const std::vector<uint32_t>& order) {
  impact_max_.resize(counts_.size());
  // Where the word's list begins among those of its range.
  std::vector<uint32_t> places(order.size());
  for (size_t i = 0; i < order.size(); ++i) places[order[i]] = i;
  for (uint32_t begin = 0; begin < order.size();) {
    std::vector<uint64_t> starts = {0};  // of the lists, in postings
    uint32_t end = begin;
    while (end < order.size()) {
      const uint64_t next = starts.back() + counts_[order[end]];
      if (end > begin && next * kPostingBytes > options_.postings_bytes_max) {
        break;
      }
      starts.push_back(next);
      ++end;
    }
    RETURN_IF_ERROR(WriteRange(places, begin, starts));
    begin = end;
  }
  return absl::OkStatus();
}

// The lists of the words whose places are from `begin` on.
absl::Status IndexBuilder::WriteRange(const std::vector<uint32_t>& places,
                                      uint32_t begin,
                                      const std::vector<uint64_t>& starts) {
  const uint64_t written = trailer_.sections[kPostings].bytes / kPostingBytes;
  const size_t lists = starts.size() - 1;
  const double mean_length =
      static_cast<double>(tokens_) / static_cast<double>(passages_.size());
  // Of each list its passages, then its impacts, as the file has them.
  std::vector<uint32_t> range(2 * starts.back());
  std::vector<uint32_t> filled(lists);
  RETURN_IF_ERROR(spill_->Rewind());
  for (uint32_t passage = 0; passage < passages_.size(); ++passage) {
    if (options_.progress && passage % kPassagesPerSign == 0) {
      options_.progress((static_cast<double>(written) +
                         static_cast<double>(starts.back()) * passage /
                             static_cast<double>(passages_.size())) /
                        static_cast<double>(postings_));
    }
    ASSIGN_OR_RETURN(const uint32_t words, spill_->Get());
    for (uint32_t i = 0; i < words; ++i) {
      ASSIGN_OR_RETURN(const uint32_t word, spill_->Get());
      ASSIGN_OR_RETURN(const uint32_t frequency, spill_->Get());
      // Below `begin` it wraps round to beyond the range.
      const uint32_t list = places[word] - begin;
      if (list >= lists) continue;
      const auto impact = static_cast<float>(
          InverseDocumentFrequency(passages_.size(), counts_[word]) *
          TermFrequencyPart(frequency, lengths_[passage], mean_length));
      impact_max_[word] = std::max(impact_max_[word], impact);
      uint32_t* const at = range.data() + 2 * starts[list] + filled[list]++;
      *at = passage;
      std::memcpy(at + counts_[word], &impact, sizeof(impact));
    }
  }
  return Append(range.data(), range.size() * sizeof(uint32_t));
}

absl::Status IndexBuilder::WriteWords(const std::vector<uint32_t>& order) {
  std::vector<const std::string*> spellings(ids_.size());
  for (const auto& [word, id] : ids_) spellings[id] = &word;
  BeginSection(kSpellings);
  for (const uint32_t word : order) {
    RETURN_IF_ERROR(Append(spellings[word]->data(), spellings[word]->size()));
  }
  BeginSection(kWords);
  IndexWord entry = {};
  for (const uint32_t word : order) {
    entry.count = counts_[word];
    entry.impact_max = impact_max_[word];
    RETURN_IF_ERROR(Append(&entry, sizeof(entry)));
    entry.spelling += spellings[word]->size();
    entry.posting += entry.count;
  }
  entry.count = 0;
  entry.impact_max = 0;
  return Append(&entry, sizeof(entry));
}

absl::Status IndexBuilder::WriteTrailer() {
  trailer_.passages = passages_.size();
  trailer_.words = counts_.size();
  trailer_.postings = postings_;
  const std::string unicode = UnicodeVersion();
  CHECK_LE(unicode.size(), sizeof(trailer_.unicode));
  std::memcpy(trailer_.unicode, unicode.data(), unicode.size());
  std::memcpy(trailer_.magic, kIndexMagic, sizeof(kIndexMagic));
  file_bytes_ += sizeof(trailer_);
  trailer_.file_bytes = file_bytes_;
  // Begun with the header's.
  trailer_.crc32c =
      Crc32c(&trailer_, offsetof(IndexTrailer, crc32c), trailer_.crc32c);
  RETURN_IF_ERROR(WriteOut());
  return file_->Append(&trailer_, sizeof(trailer_));
}

}  // namespace temper
