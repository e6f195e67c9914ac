// `temper eval MODEL --tasks TASKS` measures pass@1 and pass@k on held-out
// tasks, with standard errors.

#ifndef TOOLS_VERBS_EVAL_H_
#define TOOLS_VERBS_EVAL_H_

namespace temper {

int RunEvalVerb(int argc, char** argv);

}  // namespace temper

#endif  // TOOLS_VERBS_EVAL_H_
