// The quickstart's demonstrations as a source for `temper sft`: mixes "clean"
// and "sloppy" of demonstrations.h.

#ifndef TOOLS_QUICKSTART_SOURCE_H_
#define TOOLS_QUICKSTART_SOURCE_H_

#include <cstdint>
#include <memory>

#include "learner/train/demonstration_source.h"

namespace temper {

std::unique_ptr<DemonstrationSource> NewQuickstartSource(uint64_t seed);

}  // namespace temper

#endif  // TOOLS_QUICKSTART_SOURCE_H_
