// What a passage is worth to a query: BM25 as Lucene has it since 2016, with
// the usual k1 = 1.2 and b = 0.75,
//
//   score(query, passage) = sum over the query's words of
//     idf * f (k1 + 1) / (f + k1 (1 - b + b * length / mean length))
//   idf = ln(1 + (N - n + 1/2) / (n + 1/2))
//
// where f is how often the word stands in the passage, n in how many of the N
// passages it does, and lengths count words. A word that a query repeats counts
// once. All terms are positive, so a passage can only gain by a word.
//
// Pure functions; thread-safe.

#ifndef ENVIRONMENTS_SEARCH_BM25_H_
#define ENVIRONMENTS_SEARCH_BM25_H_

#include <cmath>
#include <cstdint>

namespace temper {

inline double InverseDocumentFrequency(uint64_t passages, uint64_t with_word) {
  const auto n = static_cast<double>(with_word);
  return std::log(1 + (static_cast<double>(passages) - n + 0.5) / (n + 0.5));
}

// What `idf` is multiplied by.
inline double TermFrequencyPart(uint32_t frequency, uint32_t length,
                                double mean_length) {
  constexpr double kK1 = 1.2, kB = 0.75;
  const double norm = kK1 * (1 - kB + kB * length / mean_length);
  return frequency * (kK1 + 1) / (frequency + norm);
}

}  // namespace temper

#endif  // ENVIRONMENTS_SEARCH_BM25_H_
