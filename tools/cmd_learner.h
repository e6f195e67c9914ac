// `temper learner --run-dir DIR` is the training process of a run: what `temper
// train` starts once.

#ifndef TOOLS_CMD_LEARNER_H_
#define TOOLS_CMD_LEARNER_H_

namespace temper {

int RunLearnerVerb(int argc, char** argv);

}  // namespace temper

#endif  // TOOLS_CMD_LEARNER_H_
