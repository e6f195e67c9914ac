#include <cstdint>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"
#include "tools/bench/sandbox_bench.h"
#include "tools/cli/cli.h"
#include "tools/cli/flags.h"
#include "tools/cli/json_output.h"
#include "tools/cli/print.h"
#include "tools/verbs/bench_verbs.h"

namespace temper {
namespace {

void PrintText(const SandboxSpeed& speed) {
  PrintOut("%s\n", speed.walls);
  PrintOut(
      "a run: p50 %.2f ms, p95 %.2f ms; bwrap true: p50 %.2f ms (%.2f and %.2f "
      "of it)\n",
      speed.run_p50_ms, speed.run_p95_ms, speed.bwrap_p50_ms,
      speed.run_p50_ms / speed.bwrap_p50_ms,
      speed.run_p95_ms / speed.bwrap_p50_ms);
  PrintOut("runs/s on one core: %.0f; of a bare zygote: %.0f (%.2f of it)\n",
           speed.runs_per_core, speed.bare_runs_per_core,
           speed.runs_per_core / speed.bare_runs_per_core);
}

Json ToJson(const SandboxSpeed& speed) {
  return {{"walls", speed.walls},
          {"run_p50_ms", speed.run_p50_ms},
          {"run_p95_ms", speed.run_p95_ms},
          {"bwrap_p50_ms", speed.bwrap_p50_ms},
          {"runs_per_second_of_a_core", speed.runs_per_core},
          {"bare_runs_per_second_of_a_core", speed.bare_runs_per_core}};
}

}  // namespace

int RunBenchSandbox(int argc, char** argv) {
  int64_t runs = 200;
  bool json = false;
  Flags flags("bench sandbox",
              "Times a session of one cell, from start to end, against bwrap "
              "running /usr/bin/true and a bare zygote.");
  flags.Number("--runs", &runs, 1, 100'000, "Of each; default 200.");
  AddJsonFlag(&flags, &json);
  if (const auto code = flags.Parse(argc, argv)) return *code;
  const auto speed = BenchSandbox(static_cast<int>(runs));
  if (!speed.ok()) return ReportError("bench sandbox", speed.status());
  if (json) {
    PrintJson(ToJson(*speed));
  } else {
    PrintText(*speed);
  }
  return kExitDone;
}

}  // namespace temper
