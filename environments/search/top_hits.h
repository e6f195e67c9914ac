// The best passages of some posting lists: MaxScore (Turtle and Flood 1995).
// Lists whose largest impacts together cannot lift a passage above the worst
// hit so far are only asked about passages that other lists have.
//
// Pure; thread-safe.

#ifndef ENVIRONMENTS_SEARCH_TOP_HITS_H_
#define ENVIRONMENTS_SEARCH_TOP_HITS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace temper {

// The passages that have a word, ascending, and what the word is worth in each.
struct PostingList {
  const uint32_t* passages = nullptr;  // [count]
  const float* impacts = nullptr;      // [count], positive
  uint32_t count = 0;
  float impact_max = 0;
};

struct Hit {
  uint32_t passage = 0;
  double score = 0;
};

// The `count` passages of the largest sums of impacts, best first, of equal
// ones that of the lower number first. A sum is made in double in the order of
// `lists`, so it does not depend on `count`. Lists that are not what they
// should be (a damaged file) give wrong hits and nothing worse.
std::vector<Hit> TopHits(const std::vector<PostingList>& lists, size_t count);

}  // namespace temper

#endif  // ENVIRONMENTS_SEARCH_TOP_HITS_H_
