// `temper config resolve [CONFIG] [--set key=value]...` prints the whole
// resolved configuration; `temper config explain [KEY]` what a key means.

#ifndef TOOLS_VERBS_CONFIG_H_
#define TOOLS_VERBS_CONFIG_H_

namespace temper {

int RunConfigVerb(int argc, char** argv);

}  // namespace temper

#endif  // TOOLS_VERBS_CONFIG_H_
