// Sub-verbs of `temper env` that have a file each; the rest is in env.cc.
//
// Each takes main's arguments from its own name on and returns the exit code
// (tools/cli/exit_code.h); main's thread only, once.

#ifndef TOOLS_VERBS_ENV_VERBS_H_
#define TOOLS_VERBS_ENV_VERBS_H_

namespace temper {

// `temper env list` prints the table's and those of the registry file.
int RunEnvList(int argc, char** argv);

// `temper env init DIR` writes one to begin with.
int RunEnvInit(int argc, char** argv);

// `temper env register NAME` keeps one of the user's in that file.
int RunEnvRegister(int argc, char** argv);

// `temper env validate NAME TASKS` asks one about its tasks; `temper env test
// NAME` plays some, and checks what it promises.
int RunEnvValidate(int argc, char** argv);
int RunEnvTest(int argc, char** argv);

// `temper env serve NAME` starts a registered one's command, for a run.
int RunEnvServe(int argc, char** argv);

// `temper env index CORPUS... --output INDEX` makes the index of a corpus for
// environment search; `temper env index --check INDEX` reads one through.
int RunEnvIndex(int argc, char** argv);

// `temper env search-tasks --output DIR` makes a world, its corpus and index,
// and questions about it.
int RunEnvSearchTasks(int argc, char** argv);

}  // namespace temper

#endif  // TOOLS_VERBS_ENV_VERBS_H_
