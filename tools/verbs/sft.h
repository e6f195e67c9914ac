// `temper sft CONFIG [--output DIR]` and `temper sft --resume DIR`: makes a
// checkpoint from demonstrations.

#ifndef TOOLS_VERBS_SFT_H_
#define TOOLS_VERBS_SFT_H_

namespace temper {

int RunSftVerb(int argc, char** argv);

}  // namespace temper

#endif  // TOOLS_VERBS_SFT_H_
