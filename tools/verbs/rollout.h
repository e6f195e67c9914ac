// `temper rollout` is a worker process: it samples episodes for a learner,
// which it finds in the run directory or by address.

#ifndef TOOLS_VERBS_ROLLOUT_H_
#define TOOLS_VERBS_ROLLOUT_H_

namespace temper {

int RunRolloutVerb(int argc, char** argv);

}  // namespace temper

#endif  // TOOLS_VERBS_ROLLOUT_H_
