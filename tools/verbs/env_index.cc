#include <sys/resource.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "environments/search/corpus_file.h"
#include "environments/search/index_builder.h"
#include "environments/search/search_index.h"
#include "kernels/base/clock.h"
#include "kernels/base/status_macros.h"
#include "nlohmann/json.hpp"
#include "tools/cli/cli.h"
#include "tools/cli/flags.h"
#include "tools/cli/json_output.h"
#include "tools/cli/next_step.h"
#include "tools/cli/print.h"
#include "tools/cli/progress_timer.h"
#include "tools/verbs/env_verbs.h"

namespace temper {
namespace {

// A corpus that the index replaced would be gone.
absl::Status CheckOutput(const std::vector<std::string>& corpora,
                         const std::string& output) {
  for (const std::string& corpus : corpora) {
    std::error_code error;
    if (!std::filesystem::equivalent(corpus, output, error)) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "--output ", output, " is the corpus itself; name another file"));
  }
  return absl::OkStatus();
}

absl::Status AddCorpus(const std::string& path, ProgressTimer* timer,
                       IndexBuilder* builder) {
  const auto reader = CorpusReader::Open(path);
  RETURN_IF_ERROR(IfUnusable(
      reader.status(),
      "name a .jsonl file of {\"title\": .., \"text\": ..}, or a text"));
  for (;;) {
    ASSIGN_OR_RETURN(const auto passage, (*reader)->Next());
    if (!passage.has_value()) return absl::OkStatus();
    RETURN_IF_ERROR(builder->Add(passage->title, passage->text));
    if (!timer->Due()) continue;
    PrintErr("reading: %d passages; %s, %.0f %%\n", builder->passages(), path,
             100.0 * static_cast<double>((*reader)->bytes_read()) /
                 static_cast<double>((*reader)->bytes_total()));
  }
}

absl::Status Build(const std::vector<std::string>& corpora,
                   const std::string& output) {
  RETURN_IF_ERROR(CheckOutput(corpora, output));
  ProgressTimer timer;
  IndexBuilderOptions options;
  options.progress = [&](double part) {
    if (timer.Due()) PrintErr("writing postings: %.0f %%\n", 100 * part);
  };
  ASSIGN_OR_RETURN(const auto builder, IndexBuilder::Create(output, options));
  for (const std::string& corpus : corpora) {
    RETURN_IF_ERROR(AddCorpus(corpus, &timer, builder.get()));
  }
  return builder->Finish();
}

int64_t MemoryPeakBytes() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} << 10;
}

absl::Status Index(const std::vector<std::string>& corpora,
                   const std::string& output, const std::string& check,
                   bool json) {
  const bool builds = check.empty();
  if (builds ? corpora.empty() || output.empty()
             : !corpora.empty() || !output.empty()) {
    return absl::InvalidArgumentError(
        "give CORPUS.. and --output INDEX, or --check INDEX alone");
  }
  const int64_t begin_us = SystemClock()->MonotonicMicros();
  if (builds) RETURN_IF_ERROR(Build(corpora, output));
  const double seconds =
      static_cast<double>(SystemClock()->MonotonicMicros() - begin_us) * 1e-6;
  const int64_t memory = MemoryPeakBytes();
  const std::string& path = builds ? output : check;
  const auto index = SearchIndex::Open(path);
  RETURN_IF_ERROR(IfUnusable(index.status(), "name an index"));
  // What was just written too: a disk that lies is told of now.
  RETURN_IF_ERROR((*index)->Verify());
  const SearchIndex& made = **index;
  if (json) {
    Json document = {{"index", path},
                     {"passages", made.passages()},
                     {"words", made.words()},
                     {"postings", made.postings()},
                     {"bytes", made.file_bytes()}};
    if (builds) {
      document["seconds"] = seconds;
      document["memory_bytes_peak"] = memory;
    }
    PrintJson(document);
    return absl::OkStatus();
  }
  PrintOut("%s: %d passages, %d words, %d postings, %.1f MB; checksums right\n",
           path, made.passages(), made.words(), made.postings(),
           static_cast<double>(made.file_bytes()) * 1e-6);
  if (builds) {
    PrintOut("built in %.1f s with at most %.0f MB of memory\n", seconds,
             static_cast<double>(memory) * 1e-6);
  }
  return absl::OkStatus();
}

}  // namespace

int RunEnvIndex(int argc, char** argv) {
  std::vector<std::string> corpora;
  std::string output;
  std::string check;
  bool json = false;
  Flags flags("env index",
              "Makes the index of a corpus, which tasks of environment search "
              "name as \"corpus\".");
  flags.TextList(
      "CORPUS", &corpora,
      "Files, of which each *.jsonl has a passage a line, {\"title\":"
      " .., \"text\": ..}; in others blank lines separate passages.");
  flags.Text("--output", &output, "The index to write.");
  flags.Text("--check", &check,
             "An index to read through instead: what is in it, and whether its "
             "checksums are right.");
  AddJsonFlag(&flags, &json);
  if (const auto code = flags.Parse(argc, argv)) return *code;
  const absl::Status status = Index(corpora, output, check, json);
  return status.ok() ? kExitDone : ReportError("env index", status);
}

}  // namespace temper
