#include "environments/driver_exchange.h"

#include <string.h>

#include <cstddef>

#include "environments/python_driver.h"
#include "kernels/base/status_macros.h"

namespace temper {
namespace {

std::string Size(size_t size) {
  const uint32_t narrow = static_cast<uint32_t>(size);
  std::string bytes(sizeof(narrow), '\0');
  memcpy(bytes.data(), &narrow, sizeof(narrow));
  return bytes;
}

uint32_t TextBytesMax(DriverRequest request, bool raised) {
  if (!raised && request == DriverRequest::kCall) return kCallReplyBytesMax;
  if (!raised && request == DriverRequest::kProgram) {
    return kProgramReplyBytesMax;
  }
  return kPythonErrorBytesMax;
}

}  // namespace

absl::StatusOr<DriverReply> AskDriver(Sandbox* sandbox, DriverRequest request,
                                      uint64_t seed, const std::string& body,
                                      SteadyTime deadline) {
  std::string whole(1 + sizeof(seed), static_cast<char>(request));
  memcpy(whole.data() + 1, &seed, sizeof(seed));
  whole += Size(body.size()) + body;
  RETURN_IF_ERROR(sandbox->Write(whole.data(), whole.size(), deadline));
  char header[5];
  RETURN_IF_ERROR(sandbox->Read(header, sizeof(header), deadline));
  uint32_t bytes;
  memcpy(&bytes, header + 1, sizeof(bytes));
  DriverReply reply;
  reply.raised = header[0] == 1;
  if (header[0] < 0 || header[0] > 1 ||
      bytes > TextBytesMax(request, reply.raised)) {
    return absl::InvalidArgumentError("not the driver's reply");
  }
  reply.text.resize(bytes);
  RETURN_IF_ERROR(sandbox->Read(reply.text.data(), bytes, deadline));
  return reply;
}

std::string JoinParts(const std::vector<std::string>& parts) {
  std::string body;
  for (const std::string& part : parts) body += Size(part.size()) + part;
  return body;
}

absl::StatusOr<std::vector<std::string>> SplitParts(const std::string& text,
                                                    size_t count) {
  std::vector<std::string> parts;
  size_t at = 0;
  while (parts.size() < count && text.size() - at >= sizeof(uint32_t)) {
    uint32_t bytes;
    memcpy(&bytes, text.data() + at, sizeof(bytes));
    at += sizeof(bytes);
    if (bytes > text.size() - at) break;
    parts.push_back(text.substr(at, bytes));
    at += bytes;
  }
  if (parts.size() == count && at == text.size()) return parts;
  return absl::InvalidArgumentError("not the driver's reply");
}

}  // namespace temper
