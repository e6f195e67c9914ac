// Sub-verbs of `temper env` that have a file each; the rest is in env.cc.
//
// Each takes main's arguments from its own name on and returns the exit code
// (tools/cli/exit_code.h); main's thread only, once.

#ifndef TOOLS_VERBS_ENV_VERBS_H_
#define TOOLS_VERBS_ENV_VERBS_H_

namespace temper {

// `temper env index CORPUS... --output INDEX` makes the index of a corpus for
// environment search; `temper env index --check INDEX` reads one through.
int RunEnvIndex(int argc, char** argv);

// `temper env search-tasks --output DIR` makes a world, its corpus and index,
// and questions about it.
int RunEnvSearchTasks(int argc, char** argv);

}  // namespace temper

#endif  // TOOLS_VERBS_ENV_VERBS_H_
