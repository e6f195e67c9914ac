// `temper train CONFIG` post-trains a model on this machine, all processes
// included; `temper train --resume RUN` goes on with a run that ended early.

#ifndef TOOLS_VERBS_TRAIN_H_
#define TOOLS_VERBS_TRAIN_H_

namespace temper {

int RunTrainVerb(int argc, char** argv);

}  // namespace temper

#endif  // TOOLS_VERBS_TRAIN_H_
