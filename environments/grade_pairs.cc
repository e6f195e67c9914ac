// Grades pairs, for tools/peers: reads lines ["CONTENT", "TRUTH"] of JSON from
// stdin and prints 1 or 0 for each, whether the message CONTENT answers TRUTH.
// Exit 2 on a line that is none.

#include <iostream>
#include <string>

#include "environments/answer.h"
#include "nlohmann/json.hpp"

int main() {
  std::string line;
  while (std::getline(std::cin, line)) {
    const auto pair = nlohmann::json::parse(line, nullptr, false);
    if (!pair.is_array() || pair.size() != 2 || !pair[0].is_string() ||
        !pair[1].is_string()) {
      std::cerr << "not a pair: " << line << "\n";
      return 2;
    }
    temper::Message message;
    message.set_role("assistant");
    message.set_content(pair[0].get<std::string>());
    const auto verdict = temper::GradeAnswer(temper::OUTCOME_OK, {message},
                                             pair[1].get<std::string>());
    std::cout << (verdict.ok() && verdict->correct() ? "1\n" : "0\n");
  }
}
