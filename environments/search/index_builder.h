// Makes the index file of a corpus (search_index.h), a passage at a time.
//
// What is in memory: the distinct words (some 100 bytes each), 20 bytes a
// passage, and as many postings as `postings_bytes_max` holds, of 8 bytes each;
// of a single word all. Texts go straight to the file. Postings go to a file
// beside it that has no name, as large as the index's postings, and are read
// from there once for each `postings_bytes_max` of them. The result does not
// depend on that limit.
//
// Not thread-safe.

#ifndef ENVIRONMENTS_SEARCH_INDEX_BUILDER_H_
#define ENVIRONMENTS_SEARCH_INDEX_BUILDER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "environments/search/index_format.h"
#include "kernels/base/file.h"

namespace temper {

// Of a passage's title and text together.
inline constexpr size_t kPassageBytesMax = size_t{16} << 20;

struct IndexBuilderOptions {
  uint64_t postings_bytes_max = uint64_t{1} << 30;
  // Called now and then by Finish with the part that is done, 0 to 1.
  std::function<void(double part)> progress;
};

class IndexBuilder {
 public:
  // Until Finish `path` is as it was. Errors as DurableFile's.
  static absl::StatusOr<std::unique_ptr<IndexBuilder>> Create(
      const std::string& path, const IndexBuilderOptions& options);
  ~IndexBuilder();
  IndexBuilder(const IndexBuilder&) = delete;
  IndexBuilder& operator=(const IndexBuilder&) = delete;

  // Adds a passage, whose number is how many were added before. Both texts are
  // UTF-8 (bytes that are not separate words). InvalidArgument above
  // kPassageBytesMax; ResourceExhausted for the 2^32nd passage or word, or a
  // full disk. After an error the builder may only be destroyed.
  absl::Status Add(std::string_view title, std::string_view text);

  // Writes the rest and gives the file its name. InvalidArgument if there is no
  // passage. Once, last.
  absl::Status Finish();

  uint64_t passages() const { return passages_.size(); }
  uint64_t words() const { return counts_.size(); }
  uint64_t postings() const { return postings_; }
  // Of the file; after Finish.
  uint64_t file_bytes() const { return file_bytes_; }

 private:
  class Spill;

  IndexBuilder(const std::string& path, const IndexBuilderOptions& options);

  absl::Status CountWords(std::string_view text);
  void BeginSection(IndexSection section);
  absl::Status Append(const void* data, uint64_t bytes);
  absl::Status WriteOut();
  std::vector<uint32_t> WordsBySpelling() const;
  absl::Status WritePostings(const std::vector<uint32_t>& order);
  absl::Status WriteRange(const std::vector<uint32_t>& places, uint32_t begin,
                          const std::vector<uint64_t>& starts);
  absl::Status WriteWords(const std::vector<uint32_t>& order);
  absl::Status WriteTrailer();

  const std::string path_;
  const IndexBuilderOptions options_;
  std::unique_ptr<DurableFile> file_;
  std::string unwritten_;    // of what was appended
  uint64_t file_bytes_ = 0;  // that included
  IndexTrailer trailer_ = {};
  IndexSection section_ = kTexts;

  absl::flat_hash_map<std::string, uint32_t> ids_;  // of words, as they came
  std::vector<uint32_t> counts_;                    // passages of each word
  std::vector<float> impact_max_;                   // of each word
  std::vector<IndexPassage> passages_;
  std::vector<uint32_t> lengths_;  // of passages, in words
  uint64_t tokens_ = 0;            // all lengths
  uint64_t postings_ = 0;
  std::unique_ptr<Spill> spill_;
  std::vector<uint32_t> passage_words_;  // of the passage that is added
};

}  // namespace temper

#endif  // ENVIRONMENTS_SEARCH_INDEX_BUILDER_H_
