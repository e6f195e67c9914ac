#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "environments/search/index_builder.h"
#include "environments/search/made_world.h"
#include "kernels/base/file.h"
#include "kernels/base/status_macros.h"
#include "nlohmann/json.hpp"
#include "proto/wire/task_file.h"
#include "tools/cli/cli.h"
#include "tools/cli/flags.h"
#include "tools/cli/json_output.h"
#include "tools/cli/print.h"
#include "tools/verbs/env_verbs.h"

namespace temper {
namespace {

struct WorldFlags {
  std::string output;
  int64_t seed = 1;
  int64_t entities = 256;
  int64_t train = 3000;
  int64_t heldout = 384;
};

// The corpus is written beside its index, for people to read.
absl::Status WriteCorpus(const std::vector<WorldPassage>& passages,
                         const std::string& corpus, const std::string& index) {
  ASSIGN_OR_RETURN(const auto builder, IndexBuilder::Create(index, {}));
  std::string lines;
  for (const WorldPassage& passage : passages) {
    lines += Json{{"title", passage.title}, {"text", passage.text}}.dump();
    lines += '\n';
    RETURN_IF_ERROR(builder->Add(passage.title, passage.text));
  }
  RETURN_IF_ERROR(WriteFileDurably(corpus, lines));
  return builder->Finish();
}

absl::Status Make(const WorldFlags& flags, bool json) {
  // Absolute, so that a run may start anywhere on this machine.
  ASSIGN_OR_RETURN(const std::string dir, AbsolutePath(flags.output));
  const std::string index = dir + "/corpus.index";
  const auto seed = static_cast<uint64_t>(flags.seed);
  const auto entities = static_cast<uint32_t>(flags.entities);
  ASSIGN_OR_RETURN(
      const std::vector<Task> tasks,
      WorldTasks(seed, entities, index, static_cast<uint32_t>(flags.train),
                 static_cast<uint32_t>(flags.heldout)));
  const std::vector<WorldPassage> passages = WorldPassages(seed, entities);
  RETURN_IF_ERROR(MakeDirectories(dir));
  RETURN_IF_ERROR(WriteCorpus(passages, dir + "/corpus.jsonl", index));
  RETURN_IF_ERROR(WriteTaskFile(dir + "/tasks.jsonl", tasks));
  if (json) {
    PrintJson({{"corpus", dir + "/corpus.jsonl"},
               {"index", index},
               {"tasks", dir + "/tasks.jsonl"},
               {"passages", passages.size()},
               {"train", flags.train},
               {"heldout", flags.heldout}});
    return absl::OkStatus();
  }
  PrintOut("%s: %d passages in corpus.jsonl and corpus.index\n", dir,
           passages.size());
  PrintOut("%s/tasks.jsonl: %d train and %d held-out tasks\n", dir, flags.train,
           flags.heldout);
  return absl::OkStatus();
}

}  // namespace

int RunEnvSearchTasks(int argc, char** argv) {
  WorldFlags values;
  bool json = false;
  Flags flags("env search-tasks",
              "Makes a world of people, companies, towns and rivers: a corpus "
              "that tells of them, its index, and questions of one, two and "
              "three facts in turn.");
  flags.Text("--output", &values.output,
             "The directory for corpus.jsonl, corpus.index and tasks.jsonl.");
  flags.Require();
  flags.Number("--seed", &values.seed, 0, INT64_MAX,
               "Another seed makes another world; default 1.");
  flags.Number("--entities", &values.entities, kWorldEntitiesMin,
               kWorldEntitiesMax, "Of each kind; default 256.");
  flags.Number("--train", &values.train, 1, 1 << 20, "Tasks; default 3000.");
  flags.Number("--heldout", &values.heldout, 0, 1 << 20, "Tasks; default 384.");
  AddJsonFlag(&flags, &json);
  if (const auto code = flags.Parse(argc, argv)) return *code;
  const absl::Status status = Make(values, json);
  return status.ok() ? kExitDone : ReportError("env search-tasks", status);
}

}  // namespace temper
