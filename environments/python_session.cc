#include "environments/python_session.h"

#include <string.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "environments/python_driver.h"
#include "environments/text.h"
#include "kernels/base/status_macros.h"

namespace temper {
namespace {

// How much slower than it was the machine may be when cells run again.
constexpr int kReplayFactor = 4;

}  // namespace

PythonSession::PythonSession(SandboxPool* pool, uint64_t seed,
                             const PythonSessionLimits& limits)
    : pool_(pool), seed_(seed), limits_(limits) {}

PythonSession::~PythonSession() {
  if (ticket_ != 0) pool_->Unpark(ticket_).reset();
}

absl::Status PythonSession::Exchange(const std::string& source,
                                     SteadyTime deadline, uint8_t* status,
                                     std::string* output) {
  std::string request(12, '\0');
  const uint32_t source_bytes = static_cast<uint32_t>(source.size());
  memcpy(request.data(), &source_bytes, 4);
  memcpy(request.data() + 4, &seed_, 8);
  request += source;
  RETURN_IF_ERROR(sandbox_->Write(request.data(), request.size(), deadline));
  char header[5];
  RETURN_IF_ERROR(sandbox_->Read(header, sizeof(header), deadline));
  uint32_t output_bytes;
  memcpy(&output_bytes, header + 1, 4);
  *status = static_cast<uint8_t>(header[0]);
  // Above what the driver sends, the cell writes on its socket itself.
  if (output_bytes > 2 * kPythonOutputBytesMax || *status > 1) {
    return absl::AbortedError("the cell broke the session");
  }
  output->resize(output_bytes);
  return sandbox_->Read(output->data(), output_bytes, deadline);
}

absl::Status PythonSession::EnsureSandbox() {
  if (ticket_ != 0) sandbox_ = pool_->Unpark(std::exchange(ticket_, 0));
  if (sandbox_ != nullptr) return absl::OkStatus();
  ASSIGN_OR_RETURN(sandbox_, pool_->Start(std::chrono::steady_clock::now() +
                                          limits_.slot_max));
  const SteadyTime deadline =
      std::chrono::steady_clock::now() +
      std::min<std::chrono::steady_clock::duration>(
          kReplayFactor * cells_took_ + limits_.cell_max, limits_.replay_max);
  for (const std::string& cell : cells_) {
    uint8_t status;
    std::string output;
    // A cell that ran before and now does not is the candidate's doing too.
    RETURN_IF_ERROR(Exchange(cell, deadline, &status, &output));
  }
  return absl::OkStatus();
}

absl::StatusOr<ToolResult> PythonSession::Run(const std::string& source) {
  ToolResult result;
  if (cells_run_ >= limits_.cells_max) {
    result.set_outcome(OUTCOME_TOOL_ERROR);
    result.set_content(absl::StrCat("error: the session has run ",
                                    limits_.cells_max, " cells, its limit"));
    return result;
  }
  ++cells_run_;
  uint8_t status = 0;
  std::string output;
  absl::Status ran = EnsureSandbox();
  if (absl::IsUnavailable(ran)) return ran;
  const SteadyTime begin = std::chrono::steady_clock::now();
  if (ran.ok()) {
    ran = Exchange(source, begin + limits_.cell_max, &status, &output);
  }
  if (ran.ok()) {
    cells_.push_back(source);
    cells_took_ += std::chrono::steady_clock::now() - begin;
    ticket_ = pool_->Park(std::move(sandbox_));
    result.set_outcome(status == 0 ? OUTCOME_OK : OUTCOME_TOOL_ERROR);
    result.set_content(SanitizeText(output, limits_.output_bytes_max));
    return result;
  }
  sandbox_.reset();
  cells_.clear();
  cells_took_ = {};
  const bool late = absl::IsDeadlineExceeded(ran);
  result.set_outcome(late ? OUTCOME_TIMEOUT : OUTCOME_TOOL_ERROR);
  result.set_content(
      late ? absl::StrCat("error: no result after ", limits_.cell_max.count(),
                          " ms; the session was ended")
           : "error: the Python process died; the session was ended");
  return result;
}

}  // namespace temper
