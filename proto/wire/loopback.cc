#include "proto/wire/loopback.h"

#include <stdint.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace temper {
namespace {

bool IsPort(const std::string& text) {
  // ZeroMQ's word for any free port.
  if (text == "*") return true;
  uint32_t port;
  return std::all_of(text.begin(), text.end(), absl::ascii_isdigit) &&
         absl::SimpleAtoi(text, &port) && port <= 65535;
}

}  // namespace

absl::Status CheckLoopback(const std::string& address) {
  for (const std::string host : {"127.0.0.1:", "localhost:", "[::1]:"}) {
    // The whole of what follows is a port: 127.0.0.1.example.org is another's
    // machine.
    if (address.rfind(host, 0) == 0 && IsPort(address.substr(host.size()))) {
      return absl::OkStatus();
    }
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "address \"", address,
      "\" is not loopback; use 127.0.0.1:PORT: others wait for transport "
      "security, which this version does not have"));
}

}  // namespace temper
