// `temper learner --run-dir DIR` is the training process of a run: what `temper
// train` starts once.

#ifndef TOOLS_VERBS_LEARNER_H_
#define TOOLS_VERBS_LEARNER_H_

namespace temper {

int RunLearnerVerb(int argc, char** argv);

}  // namespace temper

#endif  // TOOLS_VERBS_LEARNER_H_
