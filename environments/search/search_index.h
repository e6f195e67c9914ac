// A corpus that can be searched: passages of text in a file that
// index_builder.h made, mapped into memory, ranked by bm25.h. The file holds
// the texts too; nothing else is needed.
//
// Opening reads the first and the last bytes, whatever the size; the rest is
// read as it is asked for, and shared by all processes that map the file.
// Thread-safe: nothing changes after Open.

#ifndef ENVIRONMENTS_SEARCH_SEARCH_INDEX_H_
#define ENVIRONMENTS_SEARCH_SEARCH_INDEX_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "environments/search/index_format.h"
#include "environments/search/top_hits.h"
#include "kernels/base/file.h"

namespace temper {

// Of a query; the words beyond are not looked for.
inline constexpr size_t kQueryWordsMax = 64;

class SearchIndex {
 public:
  struct Passage {           // lives as long as the index
    std::string_view title;  // may be empty
    std::string_view text;
  };

  // InvalidArgument, naming `path` and the next step, for a file that is no
  // index, ends early, is of another version of the format or of another
  // Unicode; DataLoss where header or trailer are damaged; else as
  // MappedFile::Open.
  static absl::StatusOr<std::unique_ptr<SearchIndex>> Open(
      const std::string& path);

  uint64_t passages() const { return trailer_.passages; }
  uint64_t words() const { return trailer_.words; }  // distinct ones
  uint64_t postings() const { return trailer_.postings; }
  uint64_t file_bytes() const { return trailer_.file_bytes; }
  // Of the trailer, which has those of all else: another index, another one.
  uint32_t checksum() const { return trailer_.crc32c; }

  // The best `count` of the passages that have a word of `query`, best first,
  // those of one score in their order. DataLoss if the file is damaged.
  absl::StatusOr<std::vector<Hit>> Search(std::string_view query,
                                          size_t count) const;

  // In how many passages `word`, as WordReader gives it, stands.
  uint32_t PassagesWith(std::string_view word) const;

  // `number` is below passages(). DataLoss if the file is damaged.
  absl::StatusOr<Passage> Get(uint32_t number) const;

  // Reads the whole file and compares its checksums: DataLoss if one differs.
  absl::Status Verify() const;

 private:
  SearchIndex(const std::string& path, std::unique_ptr<MappedFile> file)
      : path_(path), file_(std::move(file)) {}

  absl::Status ReadEnds();
  absl::Status CheckSections() const;
  absl::Status Damaged(const std::string& what) const;
  template <typename T>
  const T* At(IndexSection section, uint64_t bytes = 0) const;
  // Null if the corpus lacks it.
  const IndexWord* Find(std::string_view word) const;
  std::string_view Spelling(uint64_t word) const;
  // Its lists, empty if they are not within the file.
  PostingList Postings(const IndexWord& word) const;

  const std::string path_;
  const std::unique_ptr<MappedFile> file_;
  IndexTrailer trailer_ = {};
};

}  // namespace temper

#endif  // ENVIRONMENTS_SEARCH_SEARCH_INDEX_H_
