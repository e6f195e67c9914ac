#include "rollout/job_lanes.h"

namespace temper {

std::map<std::string, std::string> JobLanes(
    const std::vector<const EnvironmentFacts*>& environments) {
  std::map<std::string, std::string> lanes;
  for (const EnvironmentFacts* facts : environments) {
    switch (facts->served_in) {
      case ServedIn::kWorker:
        break;
      case ServedIn::kHost:
        // With a blank, which no environment's name has.
        lanes[facts->name] = "env host";
        break;
      case ServedIn::kRegistered:
        lanes[facts->name] = facts->name;
        break;
    }
  }
  return lanes;
}

}  // namespace temper
