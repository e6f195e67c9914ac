#include "environments/interpreter/interpreter_tools.h"

namespace temper {
namespace {

// Short: they stand in every prompt, and a batch computes them once only where
// they are the same to the byte.
constexpr char kPythonJson[] =
    R"({"name": "python", "description": "Runs Python code and returns its )"
    R"(output. State is kept between calls.", "parameters": {"type": "object", )"
    R"("properties": {"code": {"type": "string"}}, "required": ["code"]}})";
constexpr char kLookupJson[] =
    R"({"name": "lookup", "description": "Returns the value of a key.", )"
    R"("parameters": {"type": "object", "properties": {"key": {"type": )"
    R"("string"}}, "required": ["key"]}})";

Tool MakeTool(const char* name, const char* function_json) {
  Tool tool;
  tool.set_name(name);
  tool.set_function_json(function_json);
  return tool;
}

}  // namespace

std::vector<Tool> InterpreterTools() {
  return {MakeTool("python", kPythonJson), MakeTool("lookup", kLookupJson)};
}

}  // namespace temper
