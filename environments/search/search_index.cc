#include "environments/search/search_index.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "environments/search/words.h"
#include "kernels/base/checksum.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"

namespace temper {
namespace {

// Of address space, not of memory.
constexpr uint64_t kFileBytesMax = uint64_t{1} << 42;

constexpr char kBuildAgain[] =
    "build it again from its corpus with `temper env index`";

const char* const kSectionNames[kIndexSections] = {
    "texts", "passages", "postings", "spellings", "words"};

absl::Status Unusable(const std::string& path, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat(path, " ", what));
}

}  // namespace

absl::StatusOr<std::unique_ptr<SearchIndex>> SearchIndex::Open(
    const std::string& path) {
  ASSIGN_OR_RETURN(auto file, MappedFile::Open(path, kFileBytesMax));
  std::unique_ptr<SearchIndex> index(new SearchIndex(path, std::move(file)));
  RETURN_IF_ERROR(index->ReadEnds());
  RETURN_IF_ERROR(index->CheckSections());
  return index;
}

absl::Status SearchIndex::ReadEnds() {
  IndexHeader header = {};
  // Of a file that is shorter, what there is.
  const size_t beginning = std::min(sizeof(header), file_->size());
  if (beginning > 0) std::memcpy(&header, file_->data(), beginning);
  if (std::memcmp(header.magic, kIndexMagic, sizeof(kIndexMagic)) != 0) {
    return Unusable(path_,
                    "is no search index; make one of a corpus with `temper env "
                    "index`");
  }
  if (header.version != kIndexVersion && beginning == sizeof(header)) {
    return Unusable(
        path_,
        absl::StrCat("is a search index of version ", header.version,
                     ", made by ",
                     header.version < kIndexVersion ? "an older" : "a newer",
                     " Temper; this one reads version ", kIndexVersion, ": ",
                     kBuildAgain));
  }
  if (file_->size() < sizeof(header) + sizeof(trailer_)) {
    return Unusable(path_,
                    absl::StrCat("is truncated to ", file_->size(),
                                 " bytes; copy it again, or ", kBuildAgain));
  }
  const std::byte* const end = file_->data() + file_->size();
  std::memcpy(&trailer_, end - sizeof(trailer_), sizeof(trailer_));
  if (std::memcmp(trailer_.magic, kIndexMagic, sizeof(kIndexMagic)) != 0) {
    return Unusable(path_, absl::StrCat("is truncated: its ", file_->size(),
                                        " bytes do not end as an index does; "
                                        "copy it again, or ",
                                        kBuildAgain));
  }
  const uint32_t crc = Crc32c(&trailer_, offsetof(IndexTrailer, crc32c),
                              Crc32c(&header, sizeof(header)));
  if (crc != trailer_.crc32c) return Damaged("the checksum of its trailer");
  if (trailer_.file_bytes != file_->size()) {
    return Unusable(
        path_,
        absl::StrCat("is truncated: of ", trailer_.file_bytes, " bytes it has ",
                     file_->size(), "; copy it again, or ", kBuildAgain));
  }
  const std::string unicode(
      trailer_.unicode, strnlen(trailer_.unicode, sizeof(trailer_.unicode)));
  if (unicode != UnicodeVersion()) {
    return Unusable(path_, absl::StrCat("has its words by Unicode ", unicode,
                                        ", and this Temper has Unicode ",
                                        UnicodeVersion(), ": ", kBuildAgain));
  }
  return absl::OkStatus();
}

// The trailer's checksum was right, so what is wrong here is who wrote it; but
// a reader beyond the mapping would take the process with it.
absl::Status SearchIndex::CheckSections() const {
  uint64_t at = sizeof(IndexHeader);
  const uint64_t end = file_->size() - sizeof(IndexTrailer);
  for (size_t i = 0; i < kIndexSections; ++i) {
    const IndexTrailer::Section& section = trailer_.sections[i];
    if (section.offset < at || section.offset % kIndexAlignment != 0 ||
        section.offset > end || section.bytes > end - section.offset) {
      return Damaged(kSectionNames[i]);
    }
    at = section.offset + section.bytes;
  }
  const auto holds = [&](IndexSection section, uint64_t count, uint64_t each) {
    const uint64_t bytes = trailer_.sections[section].bytes;
    return bytes / each == count && bytes % each == 0;
  };
  if (trailer_.passages > UINT32_MAX || trailer_.words > UINT32_MAX ||
      !holds(kPassages, trailer_.passages, sizeof(IndexPassage)) ||
      !holds(kPostings, trailer_.postings, sizeof(uint32_t) + sizeof(float)) ||
      !holds(kWords, trailer_.words + 1, sizeof(IndexWord))) {
    return Damaged("counts");
  }
  return absl::OkStatus();
}

absl::Status SearchIndex::Damaged(const std::string& what) const {
  return absl::DataLossError(absl::StrCat(
      path_, " is damaged (", what, "); copy it again, or ", kBuildAgain));
}

template <typename T>
const T* SearchIndex::At(IndexSection section, uint64_t bytes) const {
  return reinterpret_cast<const T*>(file_->data() +
                                    trailer_.sections[section].offset + bytes);
}

std::string_view SearchIndex::Spelling(uint64_t word) const {
  const auto* const words = At<IndexWord>(kWords);
  const uint64_t bytes = trailer_.sections[kSpellings].bytes;
  const uint64_t end = std::min(words[word + 1].spelling, bytes);
  const uint64_t begin = std::min(words[word].spelling, end);
  return {At<char>(kSpellings, begin), end - begin};
}

const IndexWord* SearchIndex::Find(std::string_view word) const {
  uint64_t low = 0, high = trailer_.words;
  while (low < high) {
    const uint64_t middle = low + (high - low) / 2;
    if (Spelling(middle) < word) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  if (low == trailer_.words || Spelling(low) != word) return nullptr;
  return At<IndexWord>(kWords) + low;
}

PostingList SearchIndex::Postings(const IndexWord& word) const {
  if (word.posting > trailer_.postings ||
      word.count > trailer_.postings - word.posting) {
    return {};
  }
  PostingList list;
  list.passages = At<uint32_t>(kPostings, word.posting * 8);
  list.impacts =
      At<float>(kPostings, word.posting * 8 + uint64_t{word.count} * 4);
  list.count = word.count;
  list.impact_max = word.impact_max;
  return list;
}

absl::StatusOr<std::vector<Hit>> SearchIndex::Search(std::string_view query,
                                                     size_t count) const {
  std::vector<const IndexWord*> words;
  for (WordReader reader(query);
       words.size() < kQueryWordsMax && reader.Next();) {
    const IndexWord* const word = Find(reader.word());
    if (word == nullptr) continue;
    if (std::count(words.begin(), words.end(), word) == 0) {
      words.push_back(word);
    }
  }
  std::vector<PostingList> lists;
  for (const IndexWord* const word : words) {
    lists.push_back(Postings(*word));
    if (lists.back().passages == nullptr) return Damaged("words");
  }
  std::vector<Hit> hits = TopHits(lists, count);
  for (const Hit& hit : hits) {
    if (hit.passage >= trailer_.passages) return Damaged("postings");
  }
  return hits;
}

uint32_t SearchIndex::PassagesWith(std::string_view word) const {
  const IndexWord* const found = Find(word);
  return found == nullptr ? 0 : found->count;
}

absl::StatusOr<SearchIndex::Passage> SearchIndex::Get(uint32_t number) const {
  CHECK_LT(number, trailer_.passages);
  const IndexPassage& entry = At<IndexPassage>(kPassages)[number];
  const uint64_t texts = trailer_.sections[kTexts].bytes;
  const uint64_t bytes = uint64_t{entry.title_bytes} + entry.text_bytes;
  if (entry.title > texts || bytes > texts - entry.title) {
    return Damaged("passages");
  }
  const char* const title = At<char>(kTexts, entry.title);
  return Passage{{title, entry.title_bytes},
                 {title + entry.title_bytes, entry.text_bytes}};
}

absl::Status SearchIndex::Verify() const {
  for (size_t i = 0; i < kIndexSections; ++i) {
    const IndexTrailer::Section& section = trailer_.sections[i];
    if (Crc32c(file_->data() + section.offset, section.bytes) !=
        section.crc32c) {
      return Damaged(absl::StrCat("the checksum of its ", kSectionNames[i]));
    }
  }
  return absl::OkStatus();
}

}  // namespace temper
