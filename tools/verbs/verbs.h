// Every verb of the program: what it does, where it is defined (the file of its
// name), and the one table of them that `temper --help` prints.
//
// Each takes main's arguments from its own name on and returns the exit code
// (tools/cli/exit_code.h); main's thread only, once.

#ifndef TOOLS_VERBS_VERBS_H_
#define TOOLS_VERBS_VERBS_H_

#include "tools/cli/cli.h"

namespace temper {

// `temper train CONFIG` post-trains a model on this machine, all processes
// included; `temper train --resume RUN` goes on with a run that ended early.
int RunTrainVerb(int argc, char** argv);

// `temper learner --run-dir DIR` is the training process of a run: what `temper
// train` starts once.
int RunLearnerVerb(int argc, char** argv);

// `temper rollout` is a worker process: it samples episodes for a learner,
// which it finds in the run directory or by address.
int RunRolloutVerb(int argc, char** argv);

// `temper env-host` serves episodes of the environments to rollout workers.
int RunEnvHostVerb(int argc, char** argv);

// `temper sft CONFIG [--output DIR]` and `temper sft --resume DIR`: makes a
// checkpoint from demonstrations.
int RunSftVerb(int argc, char** argv);

// `temper eval MODEL [CONFIG] [--set tasks=TASKS]` measures pass@1 and pass@k
// on held-out tasks, with standard errors.
int RunEvalVerb(int argc, char** argv);

// `temper generate MODEL --prompt TEXT` lets a model answer, without tools.
int RunGenerateVerb(int argc, char** argv);

// `temper inspect {runs, steps, group, trajectory}` shows what run.db holds.
int RunInspectVerb(int argc, char** argv);

// `temper status RUN`: where a run stands, who waits for what, what happened.
int RunStatusVerb(int argc, char** argv);

// `temper env list` prints the environments there are; `temper env test NAME`
// plays episodes of one and checks what it promises; `index` and `search-tasks`
// make what environment search reads.
int RunEnvVerb(int argc, char** argv);

// `temper config resolve [CONFIG] [--set key=value]...` prints the whole
// resolved configuration; `temper config explain [KEY]` what a key means.
int RunConfigVerb(int argc, char** argv);

// `temper bench {gemm, forward, decode, train}`: how fast this machine
// computes, as a fraction of what it does at most; `search`: how fast the index
// of environment search answers, beside SQLite's; `sandbox`: how fast sandboxes
// start and end, beside bubblewrap's.
int RunBenchVerb(int argc, char** argv);

// `temper doctor` checks what a run needs of this machine, a line each, and
// ends with 1 if something is missing, with the next step beside it. It starts
// a sandbox as a run does and says which limits are in force.
int RunDoctorVerb(int argc, char** argv);

// In the order of the help.
inline constexpr Verb kVerbs[] = {
    {"train", "post-train a model: all processes, on this machine",
     RunTrainVerb},
    {"learner", "the training process of a run", RunLearnerVerb},
    {"rollout", "a worker process that samples episodes", RunRolloutVerb},
    {"env-host", "serve environments to rollout workers", RunEnvHostVerb},
    {"sft", "make a checkpoint from demonstrations", RunSftVerb},
    {"eval", "measure pass@k on held-out tasks", RunEvalVerb},
    {"generate", "let a model answer a prompt", RunGenerateVerb},
    {"inspect", "show a run's steps, groups and trajectories", RunInspectVerb},
    {"status", "show where a run stands and who waits for what", RunStatusVerb},
    {"env", "make, register, check and list environments; index a corpus",
     RunEnvVerb},
    {"config", "resolve a configuration, or explain its keys", RunConfigVerb},
    {"bench", "time products and models against this machine's peak",
     RunBenchVerb},
    {"doctor", "check what a run needs of this machine", RunDoctorVerb},
};

}  // namespace temper

#endif  // TOOLS_VERBS_VERBS_H_
