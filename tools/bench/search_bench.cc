#include "tools/bench/search_bench.h"

#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "environments/search/index_builder.h"
#include "environments/search/search_index.h"
#include "kernels/base/file.h"
#include "kernels/base/rng.h"
#include "kernels/base/status_macros.h"
#include "sqlite3.h"

namespace temper {
namespace {

// Ranks of words. In 100,000 passages nearly all of them are drawn.
constexpr double kVocabulary = 200'000;
constexpr uint32_t kPassageWordsMin = 60;
constexpr uint32_t kPassageWordsMax = 140;
constexpr uint32_t kQueryWordsLeast = 3;
constexpr uint32_t kQueryWordsMost = 8;
constexpr size_t kHits = 10;
// A turn: the same queries for both. FTS5 takes seconds for them.
constexpr size_t kTurnQueries = 16;
constexpr size_t kTurns = 16;
constexpr PairedOptions kPairs = {.slice_micros = 1,
                                  .pairs_min = 7,
                                  .pairs_max = 31,
                                  .micros_max = 20'000'000};

using Words = std::vector<std::string>;

// Syllables of the rank's digits to the base 64: no two are spelt alike.
std::string SpellingOf(uint32_t rank) {
  std::string word;
  do {
    word += "bcdfghklmnprstvz"[rank % 16];
    word += "aeio"[rank / 16 % 4];
    rank /= 64;
  } while (rank > 0);
  return word;
}

// Rank r is drawn about 1 / (r ln kVocabulary) of the time.
Words PassageWords(uint32_t passage) {
  RngKey key = {1, RngPurpose::kTest, passage, 0, 0};
  const auto count = kPassageWordsMin +
                     UniformBelow(key, kPassageWordsMax - kPassageWordsMin + 1);
  Words words;
  while (words.size() < count) {
    ++key.ordinal;
    const double rank = std::exp(Uniform(key) * std::log(kVocabulary));
    words.push_back(SpellingOf(static_cast<uint32_t>(rank)));
  }
  return words;
}

Words QueryWords(uint32_t query, uint32_t passages) {
  RngKey key = {2, RngPurpose::kTest, query, 0, 0};
  const Words passage =
      PassageWords(static_cast<uint32_t>(UniformBelow(key, passages)));
  ++key.ordinal;
  const size_t count =
      kQueryWordsLeast +
      UniformBelow(key, kQueryWordsMost - kQueryWordsLeast + 1);
  Words words;
  while (words.size() < count) {
    ++key.ordinal;
    const std::string& word = passage[UniformBelow(key, passage.size())];
    if (std::count(words.begin(), words.end(), word) == 0) {
      words.push_back(word);
    }
  }
  return words;
}

double SecondsSince(int64_t begin_us, Clock* clock) {
  return static_cast<double>(clock->MonotonicMicros() - begin_us) * 1e-6;
}

// A table of FTS5 in memory.
class Fts5 {
 public:
  static absl::StatusOr<std::unique_ptr<Fts5>> Create() {
    std::unique_ptr<Fts5> table(new Fts5);
    if (sqlite3_open(":memory:", &table->db_) != SQLITE_OK) {
      return table->Failed("open");
    }
    RETURN_IF_ERROR(table->Run(
        "CREATE VIRTUAL TABLE passage USING fts5(text, content='')"));
    RETURN_IF_ERROR(table->Run("BEGIN"));
    ASSIGN_OR_RETURN(
        table->insert_,
        table->Prepare("INSERT INTO passage (rowid, text) VALUES (?, ?)"));
    ASSIGN_OR_RETURN(
        table->search_,
        table->Prepare(absl::StrCat("SELECT rowid, rank FROM passage WHERE "
                                    "passage MATCH ? ORDER BY rank LIMIT ",
                                    kHits)));
    return table;
  }
  ~Fts5() {
    sqlite3_finalize(insert_);
    sqlite3_finalize(search_);
    sqlite3_close(db_);
  }
  Fts5(const Fts5&) = delete;
  Fts5& operator=(const Fts5&) = delete;

  absl::Status Add(uint32_t passage, const std::string& text) {
    sqlite3_bind_int64(insert_, 1, passage);
    BindText(insert_, 2, text);
    const int code = sqlite3_step(insert_);
    sqlite3_reset(insert_);
    return code == SQLITE_DONE ? absl::OkStatus() : Failed("insert");
  }

  absl::Status Finish() {
    RETURN_IF_ERROR(Run("COMMIT"));
    return Run("INSERT INTO passage (passage) VALUES ('optimize')");
  }

  absl::StatusOr<std::vector<uint32_t>> Search(const std::string& query) {
    BindText(search_, 1, query);
    std::vector<uint32_t> hits;
    int code;
    while ((code = sqlite3_step(search_)) == SQLITE_ROW) {
      hits.push_back(static_cast<uint32_t>(sqlite3_column_int64(search_, 0)));
    }
    sqlite3_reset(search_);
    if (code != SQLITE_DONE) return Failed("search");
    return hits;
  }

 private:
  Fts5() = default;

  // `text` outlives the step.
  static void BindText(sqlite3_stmt* statement, int place,
                       const std::string& text) {
    sqlite3_bind_text(statement, place, text.data(),
                      static_cast<int>(text.size()), SQLITE_STATIC);
  }
  absl::StatusOr<sqlite3_stmt*> Prepare(const std::string& sql) {
    sqlite3_stmt* statement = nullptr;
    if (sqlite3_prepare_v2(db_, sql.c_str(), -1, &statement, nullptr) !=
        SQLITE_OK) {
      return Failed(sql);
    }
    return statement;
  }
  absl::Status Run(const char* sql) {
    return sqlite3_exec(db_, sql, nullptr, nullptr, nullptr) == SQLITE_OK
               ? absl::OkStatus()
               : Failed(sql);
  }
  absl::Status Failed(const std::string& what) const {
    return absl::InternalError(
        absl::StrCat("FTS5: ", what, ": ", sqlite3_errmsg(db_)));
  }

  sqlite3* db_ = nullptr;
  sqlite3_stmt* insert_ = nullptr;
  sqlite3_stmt* search_ = nullptr;
};

absl::StatusOr<std::unique_ptr<SearchIndex>> BuildIndex(
    uint32_t passages, const std::string& path, Clock* clock,
    SearchBenchResult* result) {
  ASSIGN_OR_RETURN(const auto builder, IndexBuilder::Create(path, {}));
  for (uint32_t i = 0; i < passages; ++i) {
    const std::string text = absl::StrJoin(PassageWords(i), " ");
    const int64_t begin = clock->MonotonicMicros();
    RETURN_IF_ERROR(builder->Add("", text));
    result->build_seconds += SecondsSince(begin, clock);
  }
  const int64_t begin = clock->MonotonicMicros();
  RETURN_IF_ERROR(builder->Finish());
  result->build_seconds += SecondsSince(begin, clock);
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  result->memory_bytes_peak = static_cast<uint64_t>(usage.ru_maxrss) << 10;
  ASSIGN_OR_RETURN(auto index, SearchIndex::Open(path));
  result->passages = index->passages();
  result->words = index->words();
  result->postings = index->postings();
  result->index_bytes = index->file_bytes();
  return index;
}

absl::StatusOr<std::unique_ptr<Fts5>> BuildFts5(uint32_t passages, Clock* clock,
                                                SearchBenchResult* result) {
  ASSIGN_OR_RETURN(auto table, Fts5::Create());
  for (uint32_t i = 0; i < passages; ++i) {
    const std::string text = absl::StrJoin(PassageWords(i), " ");
    const int64_t begin = clock->MonotonicMicros();
    RETURN_IF_ERROR(table->Add(i, text));
    result->fts5_build_seconds += SecondsSince(begin, clock);
  }
  const int64_t begin = clock->MonotonicMicros();
  RETURN_IF_ERROR(table->Finish());
  result->fts5_build_seconds += SecondsSince(begin, clock);
  return table;
}

// The same queries as each wants them.
struct Queries {
  Words ours, fts5;
};

Queries MakeQueries(uint32_t passages) {
  Queries queries;
  for (uint32_t i = 0; i < kTurns * kTurnQueries; ++i) {
    const Words words = QueryWords(i, passages);
    queries.ours.push_back(absl::StrJoin(words, " "));
    queries.fts5.push_back(
        absl::StrCat("\"", absl::StrJoin(words, "\" OR \""), "\""));
  }
  return queries;
}

absl::StatusOr<double> SameHits(const Queries& queries,
                                const SearchIndex& index, Fts5* table) {
  double same = 0, all = 0;
  for (size_t i = 0; i < kTurnQueries; ++i) {
    ASSIGN_OR_RETURN(const auto ours, index.Search(queries.ours[i], kHits));
    ASSIGN_OR_RETURN(const auto theirs, table->Search(queries.fts5[i]));
    for (const Hit& hit : ours) {
      same += std::count(theirs.begin(), theirs.end(), hit.passage) > 0 ? 1 : 0;
      ++all;
    }
  }
  return same / all;
}

}  // namespace

absl::StatusOr<SearchBenchResult> BenchSearch(uint32_t passages,
                                              const std::string& dir,
                                              Clock* clock) {
  SearchBenchResult result;
  const std::string path = dir + "/bench.index";
  ASSIGN_OR_RETURN(const auto index,
                   BuildIndex(passages, path, clock, &result));
  // The mapping keeps the bytes.
  RETURN_IF_ERROR(RemoveAll(path));
  ASSIGN_OR_RETURN(const auto table, BuildFts5(passages, clock, &result));
  const Queries queries = MakeQueries(passages);
  ASSIGN_OR_RETURN(result.same_hits, SameHits(queries, *index, table.get()));
  size_t next = 0, next_fts5 = 0;
  const auto ours = [&]() -> absl::StatusOr<double> {
    for (size_t i = 0; i < kTurnQueries; ++i) {
      const size_t at = next++ % queries.ours.size();
      RETURN_IF_ERROR(index->Search(queries.ours[at], kHits).status());
    }
    return static_cast<double>(kTurnQueries);
  };
  const auto theirs = [&]() -> absl::StatusOr<double> {
    for (size_t i = 0; i < kTurnQueries; ++i) {
      const size_t at = next_fts5++ % queries.fts5.size();
      RETURN_IF_ERROR(table->Search(queries.fts5[at]).status());
    }
    return static_cast<double>(kTurnQueries);
  };
  ASSIGN_OR_RETURN(result.queries, MeasurePaired(ours, theirs, kPairs, clock));
  return result;
}

}  // namespace temper
