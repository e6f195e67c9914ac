// Sub-verbs of `temper bench` that measure something else than the core; the
// rest is in bench.cc.
//
// Each takes main's arguments from its own name on and returns the exit code
// (tools/cli/exit_code.h); main's thread only, once.

#ifndef TOOLS_VERBS_BENCH_VERBS_H_
#define TOOLS_VERBS_BENCH_VERBS_H_

namespace temper {

// `temper bench search` times the index of environment search.
int RunBenchSearch(int argc, char** argv);

// `temper bench sandbox` times sandboxes.
int RunBenchSandbox(int argc, char** argv);

}  // namespace temper

#endif  // TOOLS_VERBS_BENCH_VERBS_H_
