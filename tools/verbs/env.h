// `temper env list` prints the environments there are; `temper env test NAME`
// plays episodes of one and checks what it promises.

#ifndef TOOLS_VERBS_ENV_H_
#define TOOLS_VERBS_ENV_H_

namespace temper {

int RunEnvVerb(int argc, char** argv);

}  // namespace temper

#endif  // TOOLS_VERBS_ENV_H_
