// The one table of configuration keys: default, limits and meaning of every
// leaf of RunConfig. `temper config explain`, the resolution of a run and the
// rule of what a resume may change all read it; a test holds it against
// proto/config.proto, so neither has a key that the other lacks.
//
// Everything here is constant and thread-safe.

#ifndef TOOLS_CONFIG_CONFIG_KEYS_H_
#define TOOLS_CONFIG_CONFIG_KEYS_H_

#include <string>
#include <vector>

namespace temper {

// Whether a resumed run may have another value than it began with.
enum class OnResume { kFixed, kMayChange };

struct ConfigKey {
  const char* name;          // the leaf's name, unique in RunConfig
  const char* default_text;  // as --set takes it; null: must be given
  OnResume on_resume;
  double min;           // numbers, inclusive
  double max;           // numbers, inclusive
  const char* choices;  // strings: "a|b|c"; null: any
  const char* later;    // strings: choices not built yet, "a|b"; else null
  const char* meaning;  // one or two sentences, with the unit
};

// In the order of proto/config.proto.
const std::vector<ConfigKey>& ConfigKeys();

// Null if there is no such key.
const ConfigKey* FindConfigKey(const std::string& name);

// Our key for a name that other systems use ("lr", "beta"), or "" if none.
std::string KeyOfAlias(const std::string& name);

// Why a key of a feature left for later is refused, or "" if it is not one.
std::string LaterFeature(const std::string& name);

// The candidate nearest to `word` (edit distance with transpositions, case and
// '-' against '_' ignored); "" if none shares at least half its letters.
std::string Nearest(const std::string& word,
                    const std::vector<std::string>& candidates);

}  // namespace temper

#endif  // TOOLS_CONFIG_CONFIG_KEYS_H_
