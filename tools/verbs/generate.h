// `temper generate MODEL --prompt TEXT` lets a model answer, without tools.

#ifndef TOOLS_VERBS_GENERATE_H_
#define TOOLS_VERBS_GENERATE_H_

namespace temper {

int RunGenerateVerb(int argc, char** argv);

}  // namespace temper

#endif  // TOOLS_VERBS_GENERATE_H_
