#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/clock.h"
#include "kernels/base/status_macros.h"
#include "kernels/cpu/machine_peak.h"
#include "kernels/find_backend.h"
#include "kernels/model/published_weights.h"
#include "kernels/tensor/numerics.h"
#include "nlohmann/json.hpp"
#include "tools/bench/measurement.h"
#include "tools/bench/model_bench.h"
#include "tools/bench/product_bench.h"
#include "tools/cli/cli.h"
#include "tools/cli/flags.h"
#include "tools/cli/json_output.h"
#include "tools/cli/print.h"
#include "tools/run/compute.h"
#include "tools/verbs/bench_verbs.h"
#include "tools/verbs/verbs.h"

namespace temper {
namespace {

constexpr int64_t kThreadsMax = 1024;

// What every sub-verb takes.
struct BenchFlags {
  std::string tier;
  std::string device = "auto";
  int64_t threads = 0;
  std::string model;
  std::string numerics = "fp32";
  bool json = false;

  void AddTo(Flags* flags) {
    flags->Text("--tier", &tier,
                "The CPU tier; without it TEMPER_ISA's, or the best here.");
    flags->Text("--device", &device,
                "auto (the default), cpu or cuda, as the key device has it.");
    flags->Text("--numerics", &numerics, "fp32 (the default), bf16 or fp8.");
    flags->Number("--threads", &threads, 0, kThreadsMax,
                  "Threads that compute; 0: this machine's cores.");
    AddJsonFlag(flags, &json);
  }
};

// The device that is measured, and its yardstick: none for a GPU, whose peak
// nothing here knows.
struct Bench {
  std::string tier;
  Numerics numerics;
  int threads = 1;
  std::unique_ptr<Backend> backend;
  std::unique_ptr<MachinePeak> peak;
};

absl::StatusOr<Bench> NewBench(const BenchFlags& flags) {
  Bench bench;
  ASSIGN_OR_RETURN(bench.numerics, NumericsNamed(flags.numerics));
  ComputeWish wish;
  wish.tier = flags.tier;
  wish.numerics = bench.numerics;
  ASSIGN_OR_RETURN(wish.device, DeviceNamed(flags.device));
  ASSIGN_OR_RETURN(const BackendChoice choice, ChooseComputeBackend(wish));
  bench.tier = choice.name;
  bench.threads = ComputeThreads(static_cast<int>(flags.threads));
  ASSIGN_OR_RETURN(bench.backend,
                   FindBackend({.name = bench.tier, .threads = bench.threads}));
  if (choice.device == Device::kCuda) return bench;
  ASSIGN_OR_RETURN(
      bench.peak,
      MachinePeak::Create(bench.tier, bench.numerics.operand, bench.threads));
  return bench;
}

void PrintText(const Bench& bench, const Measurements& measurements) {
  const char* held = bench.peak == nullptr
                         ? "medians"
                         : "medians of pairs, each held against the machine's "
                           "peak beside it";
  PrintOut("%s on %s%s, %d %s; %s\n", NameOf(bench.numerics),
           bench.peak == nullptr ? "" : "tier ", bench.tier, bench.threads,
           bench.threads == 1 ? "thread" : "threads", held);
  PrintOut("%-44s %14s %14s %14s %8s\n", "", "tokens/s", "G/s", "peak G/s",
           "of peak");
  for (const Measurement& row : measurements) {
    const std::string tokens =
        row.unit == "tokens" ? absl::StrFormat("%.1f", row.per_second) : "";
    PrintOut("%-44s %14s %10.2f %-3s", row.name, tokens,
             row.of_peak.per_second * 1e-9, row.peak_unit);
    if (bench.peak != nullptr) {
      PrintOut(" %10.2f %-3s %8.3f", row.of_peak.yard_per_second * 1e-9,
               row.peak_unit, row.of_peak.fraction);
    }
    PrintOut("\n");
  }
}

Json ToJson(const Bench& bench, const Measurements& measurements) {
  const auto of_peak = [&](double value) {
    return bench.peak == nullptr ? Json(nullptr) : Json(value);
  };
  Json rows = Json::array();
  for (const Measurement& row : measurements) {
    rows.push_back({{"name", row.name},
                    {"unit", row.unit},
                    {"per_second", row.per_second},
                    {"work_unit", row.peak_unit},
                    {"work_per_second", row.of_peak.per_second},
                    {"peak_per_second", of_peak(row.of_peak.yard_per_second)},
                    {"fraction_of_peak", of_peak(row.of_peak.fraction)},
                    {"pairs", row.of_peak.pairs}});
  }
  return {{"numerics", NameOf(bench.numerics)},
          {"tier", bench.tier},
          {"threads", bench.threads},
          {"measurements", std::move(rows)}};
}

using Measure = std::function<absl::StatusOr<Measurements>(const Bench&,
                                                           const BenchFlags&)>;

int Report(const std::string& verb, const BenchFlags& flags,
           const Measure& measure) {
  const auto run = [&]() -> absl::Status {
    ASSIGN_OR_RETURN(const Bench bench, NewBench(flags));
    ASSIGN_OR_RETURN(const Measurements measurements, measure(bench, flags));
    if (flags.json) {
      PrintJson(ToJson(bench, measurements));
    } else {
      PrintText(bench, measurements);
    }
    return absl::OkStatus();
  };
  const absl::Status status = run();
  return status.ok() ? kExitDone : ReportError("bench " + verb, status);
}

int BenchGemm(int argc, char** argv) {
  BenchFlags values;
  Flags flags("bench gemm",
              "Times matrix products of 1024 x 1024 weights, and one row over "
              "more weights than the caches hold.");
  values.AddTo(&flags);
  if (const auto code = flags.Parse(argc, argv)) return *code;
  return Report("gemm", values, [](const Bench& bench, const BenchFlags&) {
    return BenchProducts(bench.backend.get(), bench.peak.get(),
                         bench.numerics.operand, SystemClock());
  });
}

// The three that run a model.
int ReportOfModel(const std::string& verb, const std::string& help, int argc,
                  char** argv,
                  const std::function<absl::StatusOr<Measurements>(
                      const Bench&, PublishedWeights*)>& measure) {
  BenchFlags values;
  Flags flags("bench " + verb, help);
  flags.Text("--model", &values.model,
             "A model's directory, or a config.json for random weights.");
  flags.Require();
  values.AddTo(&flags);
  if (const auto code = flags.Parse(argc, argv)) return *code;
  return Report(verb, values,
                [&](const Bench& bench,
                    const BenchFlags& given) -> absl::StatusOr<Measurements> {
                  ASSIGN_OR_RETURN(const BenchModel model,
                                   LoadBenchModel(bench.backend.get(),
                                                  bench.numerics, given.model));
                  return measure(bench, model.weights.get());
                });
}

int BenchForward(int argc, char** argv) {
  return ReportOfModel(
      "forward", "Times the forward of 2 x 256 tokens with log-probabilities.",
      argc, argv, [](const Bench& bench, PublishedWeights* weights) {
        return BenchPack(bench.backend.get(), bench.peak.get(), *weights,
                         BenchPass::kForward, SystemClock());
      });
}

int BenchTrain(int argc, char** argv) {
  return ReportOfModel(
      "train", "Times the forward and backward of 2 x 256 tokens.", argc, argv,
      [](const Bench& bench, PublishedWeights* weights) {
        return BenchPack(bench.backend.get(), bench.peak.get(), *weights,
                         BenchPass::kForwardBackward, SystemClock());
      });
}

int BenchDecoding(int argc, char** argv) {
  return ReportOfModel(
      "decode",
      "Times an engine that samples for 1, 8, 32 and 256 sequences at once.",
      argc, argv, [](const Bench& bench, PublishedWeights* weights) {
        return BenchDecode(bench.backend.get(), bench.peak.get(), weights,
                           SystemClock());
      });
}

}  // namespace

int RunBenchVerb(int argc, char** argv) {
  return RunVerb(
      "bench",
      {{"gemm", "matrix products", BenchGemm},
       {"forward", "a training pack's forward", BenchForward},
       {"decode", "an engine's sampling", BenchDecoding},
       {"train", "a training pack, there and back", BenchTrain},
       {"search", "the index of environment search, and FTS5", RunBenchSearch},
       {"sandbox", "how fast sandboxes start and end", RunBenchSandbox}},
      argc, argv);
}

}  // namespace temper
