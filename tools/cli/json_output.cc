#include "tools/cli/json_output.h"

#include "nlohmann/json.hpp"
#include "tools/cli/print.h"

namespace temper {

void AddJsonFlag(Flags* flags, bool* json) {
  flags->Switch("--json", json, "Print one JSON document, for programs.");
}

void PrintJson(const Json& document) {
  // All controls of ASCII but the newlines between values are escaped by the
  // dump, the others by Lines, in JSON's own way.
  PrintOut("%s\n",
           Lines{document.dump(/*indent=*/2, ' ', /*ensure_ascii=*/false,
                               Json::error_handler_t::replace)});
}

}  // namespace temper
