// Times the index of environment search against SQLite's full-text index, FTS5,
// on one corpus in one run: passages of words drawn by Zipf's law, queries of
// three to eight distinct words of a passage, the ten best hits.
//
// FTS5 has its table in memory, without the texts, optimised, and is asked for
// any of the words, ranked by its bm25 (OR, ORDER BY rank).

#ifndef TOOLS_BENCH_SEARCH_BENCH_H_
#define TOOLS_BENCH_SEARCH_BENCH_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/base/clock.h"
#include "tools/bench/paired_rate.h"

namespace temper {

struct SearchBenchResult {
  uint64_t passages = 0;
  uint64_t words = 0;  // distinct ones
  uint64_t postings = 0;
  uint64_t index_bytes = 0;
  double build_seconds = 0;
  uint64_t memory_bytes_peak = 0;  // of the process, when it was built
  double fts5_build_seconds = 0;
  PairedRate queries;    // a second; the yardstick is FTS5
  double same_hits = 0;  // share of our hits that are FTS5's too
};

// `dir` is a directory for the index, which is removed again. Takes about a
// minute for 100,000 passages, all but some seconds of it FTS5's.
absl::StatusOr<SearchBenchResult> BenchSearch(uint32_t passages,
                                              const std::string& dir,
                                              Clock* clock);

}  // namespace temper

#endif  // TOOLS_BENCH_SEARCH_BENCH_H_
