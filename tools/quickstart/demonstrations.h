// Demonstrations for the quickstart's cold start: whole conversations on train
// tasks (tasks.h), right ones or with slips. A slip is a wrong step
// in the right format: the model learns to write well-formed messages that are
// often wrong, and reinforcement learning has answers to improve.
//
// Tool results are what the environments answer to the calls shown, computed
// here. Pure functions of their arguments, on every machine.

#ifndef TOOLS_QUICKSTART_DEMONSTRATIONS_H_
#define TOOLS_QUICKSTART_DEMONSTRATIONS_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "proto/task.pb.h"
#include "tools/quickstart/tasks.h"

namespace temper {

// Probabilities, each drawn on its own. A guess replaces all other steps; a
// failed call is followed by a guess.
struct SlipRates {
  struct OneCall {
    double guess = 0;           // answers without a call
    double malformed_call = 0;  // the code is no Python
    double wrong_digit = 0;     // of the expression
    double miscopy = 0;         // a digit of the result, in the answer
  } one_call;
  struct TwoCalls {
    double guess = 0;
    double wrong_key = 0;
    double stop_early = 0;      // answers the looked-up value
    double malformed_call = 0;  // of the second call
    double wrong_digit = 0;     // of the second call
    double miscopy = 0;
  } two_calls;
  struct Math {
    double guess = 0;
    double no_carry = 0;     // carries are ignored
    double misread = 0;      // a digit of an operand
    double wrong_digit = 0;  // of the answer
  } math;
};

// The study's mix: right in 0.35 to 0.37 of the demonstrations.
SlipRates SloppyRates();

// "clean" (no slips) | "sloppy". InvalidArgument names another.
absl::StatusOr<SlipRates> RatesOfMix(const std::string& mix);

struct QuickstartDemonstration {
  Demonstration demonstration;
  QuickstartTask task;
  std::string answer;  // the one given
  bool right = false;  // it is the task's
};

// Demonstration `index` of the endless stream of (seed, rates); the kinds come
// in turn.
QuickstartDemonstration MakeQuickstartDemonstration(uint64_t seed,
                                                    const SlipRates& rates,
                                                    uint64_t index);

}  // namespace temper

#endif  // TOOLS_QUICKSTART_DEMONSTRATIONS_H_
