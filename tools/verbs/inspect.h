// `temper inspect {runs, steps, group, trajectory}` shows what run.db holds.

#ifndef TOOLS_VERBS_INSPECT_H_
#define TOOLS_VERBS_INSPECT_H_

namespace temper {

int RunInspectVerb(int argc, char** argv);

}  // namespace temper

#endif  // TOOLS_VERBS_INSPECT_H_
