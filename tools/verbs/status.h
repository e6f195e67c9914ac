// `temper status RUN`: where a run stands, who waits for what, what happened.

#ifndef TOOLS_VERBS_STATUS_H_
#define TOOLS_VERBS_STATUS_H_

namespace temper {

int RunStatusVerb(int argc, char** argv);

}  // namespace temper

#endif  // TOOLS_VERBS_STATUS_H_
