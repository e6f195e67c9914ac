// The text of the files that `temper env init` copies; each begins with a line
// end, which is not of the file. Constants.

#ifndef ENVIRONMENTS_EXAMPLE_PYTHON_EXAMPLE_FILES_H_
#define ENVIRONMENTS_EXAMPLE_PYTHON_EXAMPLE_FILES_H_

namespace temper {

extern const char kExamplePython[];  // environment.py
extern const char kExampleCppBuild[];
extern const char kExampleCppSource[];
extern const char kExampleCppHeader[];
extern const char kExampleCppGolden[];  // what conformance_test expects of it
extern const char kEnvironmentProto[];
extern const char kTaskProto[];

}  // namespace temper

#endif  // ENVIRONMENTS_EXAMPLE_PYTHON_EXAMPLE_FILES_H_
