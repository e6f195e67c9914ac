// `temper generate MODEL --prompt TEXT` lets a model answer, without tools.

#ifndef TOOLS_CMD_GENERATE_H_
#define TOOLS_CMD_GENERATE_H_

namespace temper {

int RunGenerateVerb(int argc, char** argv);

}  // namespace temper

#endif  // TOOLS_CMD_GENERATE_H_
