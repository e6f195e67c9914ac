#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/clock.h"
#include "kernels/base/file.h"
#include "kernels/base/status_macros.h"
#include "nlohmann/json.hpp"
#include "tools/bench/search_bench.h"
#include "tools/cli/cli.h"
#include "tools/cli/flags.h"
#include "tools/cli/json_output.h"
#include "tools/cli/print.h"
#include "tools/verbs/bench_verbs.h"

namespace temper {
namespace {

void PrintText(const SearchBenchResult& result) {
  PrintOut(
      "%d passages, %d words, %d postings; index %.1f MB, built in %.1f s with "
      "at most %.0f MB of memory; FTS5 in %.1f s\n",
      result.passages, result.words, result.postings,
      static_cast<double>(result.index_bytes) * 1e-6, result.build_seconds,
      static_cast<double>(result.memory_bytes_peak) * 1e-6,
      result.fts5_build_seconds);
  PrintOut(
      "%.1f queries/s, FTS5 %.1f: %.1f times as many, median of %d pairs; %.2f "
      "of the hits are FTS5's too\n",
      result.queries.per_second, result.queries.yard_per_second,
      result.queries.fraction, result.queries.pairs, result.same_hits);
}

Json ToJson(const SearchBenchResult& result) {
  return {{"passages", result.passages},
          {"words", result.words},
          {"postings", result.postings},
          {"index_bytes", result.index_bytes},
          {"build_seconds", result.build_seconds},
          {"memory_bytes_peak", result.memory_bytes_peak},
          {"fts5_build_seconds", result.fts5_build_seconds},
          {"queries_per_second", result.queries.per_second},
          {"fts5_queries_per_second", result.queries.yard_per_second},
          {"times_fts5", result.queries.fraction},
          {"pairs", result.queries.pairs},
          {"same_hits", result.same_hits}};
}

// In a directory of its own, which is gone afterwards.
absl::StatusOr<SearchBenchResult> MeasureSearch(uint32_t passages) {
  std::error_code error;
  const std::filesystem::path parent =
      std::filesystem::temp_directory_path(error);
  if (error) {
    return absl::FailedPreconditionError(
        absl::StrCat("no directory for temporary files: ", error.message(),
                     "; set TMPDIR to one with a gigabyte free"));
  }
  std::string dir = parent / "temper-bench.XXXXXX";
  if (mkdtemp(dir.data()) == nullptr) return FileError("make", dir, errno);
  auto result = BenchSearch(passages, dir, SystemClock());
  RETURN_IF_ERROR(RemoveAll(dir));
  return result;
}

}  // namespace

int RunBenchSearch(int argc, char** argv) {
  int64_t passages = 100'000;
  bool json = false;
  Flags flags("bench search",
              "Times the index of environment search against SQLite's FTS5, "
              "for a minute or so.");
  flags.Number("--passages", &passages, 100, 10'000'000,
               "Of the corpus, which is drawn; default 100000.");
  AddJsonFlag(&flags, &json);
  if (const auto code = flags.Parse(argc, argv)) return *code;
  const auto result = MeasureSearch(static_cast<uint32_t>(passages));
  if (!result.ok()) return ReportError("bench search", result.status());
  if (json) {
    PrintJson(ToJson(*result));
  } else {
    PrintText(*result);
  }
  return kExitDone;
}

}  // namespace temper
