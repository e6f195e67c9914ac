// `temper doctor` checks what a run needs of this machine, a line each, and
// ends with 1 if something is missing, with the next step beside it. It starts
// a sandbox as a run does and says which limits are in force.

#ifndef TOOLS_VERBS_DOCTOR_H_
#define TOOLS_VERBS_DOCTOR_H_

namespace temper {

int RunDoctorVerb(int argc, char** argv);

}  // namespace temper

#endif  // TOOLS_VERBS_DOCTOR_H_
