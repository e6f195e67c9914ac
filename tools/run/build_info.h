// What a run writes down of the program and the machine that made it.

#ifndef TOOLS_RUN_BUILD_INFO_H_
#define TOOLS_RUN_BUILD_INFO_H_

#include <string>

namespace temper {

// The program, by the SHA-256 of its own file: "sha256:0123456789ab".
std::string Revision();

// Processor, cores, memory, kernel, what computes (a CPU tier or cuda): one
// line.
std::string MachineDescription(const std::string& backend);

}  // namespace temper

#endif  // TOOLS_RUN_BUILD_INFO_H_
