// What a user may have meant by a name that is no configuration key (or verb).
//
// Functions without state; thread-safe.

#ifndef TOOLS_CONFIG_KEY_NAMES_H_
#define TOOLS_CONFIG_KEY_NAMES_H_

#include <string>
#include <vector>

namespace temper {

// Our key for a name that other systems use ("lr", "beta"), or "" if none. Not
// every configuration has it.
std::string KeyOfAlias(const std::string& name);

// Why a key of a feature left for later is refused, or "" if it is not one.
std::string LaterFeature(const std::string& name);

// The candidate nearest to `word` (edit distance with transpositions, case and
// '-' against '_' ignored); "" if none shares at least half its letters.
std::string Nearest(const std::string& word,
                    const std::vector<std::string>& candidates);

}  // namespace temper

#endif  // TOOLS_CONFIG_KEY_NAMES_H_
