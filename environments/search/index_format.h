// How an index file is laid out: a header, sections each at a multiple of 8
// bytes, a trailer. Little-endian, as is every machine that Temper runs on.
//
//   header      IndexHeader
//   texts       of each passage its title, then its text; UTF-8
//   passages    IndexPassage each
//   postings    of each word, in the order of words: its passages (uint32
//               each, ascending), then its impacts on them (float each)
//   spellings   the words, ascending by their bytes
//   words       IndexWord each, and one more where the last ends
//   trailer     IndexTrailer
//
// A file is written from front to back and mapped as it is. The trailer has the
// checksums: its own is looked at whenever the file is opened, those of the
// sections only by SearchIndex::Verify, for that reads all of it. Whoever
// changes what a version says raises kIndexVersion.

#ifndef ENVIRONMENTS_SEARCH_INDEX_FORMAT_H_
#define ENVIRONMENTS_SEARCH_INDEX_FORMAT_H_

#include <cstddef>
#include <cstdint>

namespace temper {

inline constexpr char kIndexMagic[8] = {'T', 'e', 'm', 'p', 'e', 'r', 'I', 'x'};
inline constexpr uint32_t kIndexVersion = 1;
inline constexpr size_t kIndexAlignment = 8;

struct IndexHeader {
  char magic[8];
  uint32_t version;
  uint32_t zero;
};
static_assert(sizeof(IndexHeader) == 16);

struct IndexPassage {
  uint64_t title;  // where in texts
  uint32_t title_bytes;
  uint32_t text_bytes;  // of the text, which follows the title
};
static_assert(sizeof(IndexPassage) == 16);

struct IndexWord {
  uint64_t spelling;  // where in spellings; it ends where the next begins
  uint64_t posting;   // number of its first; they are 8 bytes each
  uint32_t count;
  float impact_max;
};
static_assert(sizeof(IndexWord) == 24);

enum IndexSection { kTexts, kPassages, kPostings, kSpellings, kWords };
inline constexpr size_t kIndexSections = 5;

struct IndexTrailer {
  struct Section {
    uint64_t offset;
    uint64_t bytes;
    uint32_t crc32c;
    uint32_t zero;
  };
  Section sections[kIndexSections];
  uint64_t file_bytes;
  uint64_t passages;
  uint64_t words;
  uint64_t postings;
  char unicode[16];  // the version whose words these are, zeros behind
  uint32_t zero;
  uint32_t crc32c;  // of the header and of all of the trailer before
  char magic[8];
};
static_assert(sizeof(IndexTrailer) == 184);

}  // namespace temper

#endif  // ENVIRONMENTS_SEARCH_INDEX_FORMAT_H_
