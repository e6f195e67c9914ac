#include "tools/json_output.h"

#include <cstdio>

#include "nlohmann/json.hpp"

namespace temper {

void AddJsonFlag(Flags* flags, bool* json) {
  flags->Switch("--json", json, "Print one JSON document, for programs.");
}

void PrintJson(const Json& document) {
  printf("%s\n", document
                     .dump(/*indent=*/2, ' ', /*ensure_ascii=*/false,
                           Json::error_handler_t::replace)
                     .c_str());
}

}  // namespace temper
