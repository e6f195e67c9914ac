// `temper env-host` serves episodes of the environments to rollout workers.

#ifndef TOOLS_VERBS_ENV_HOST_H_
#define TOOLS_VERBS_ENV_HOST_H_

namespace temper {

int RunEnvHostVerb(int argc, char** argv);

}  // namespace temper

#endif  // TOOLS_VERBS_ENV_HOST_H_
