// A made world to ask questions about: people, companies, towns and rivers with
// invented names, the facts that link them, passages that tell the facts, and
// questions that follow one, two or three of them ("What is the river of the
// seat of the employer of Tarin Velko?").
//
// Who has not read the corpus cannot answer. An answer is the name of one of
// many entities; each fact links all of a kind to all of another, one to one,
// so no name is the answer more often than others; and an answer never stands
// in its question. Who reads has to look twice: each passage tells of the past
// and of others too, names share their parts, some facts are on a second page,
// and further passages mention entities and tell no fact.
//
// Pure functions of their arguments, on every machine.

#ifndef ENVIRONMENTS_SEARCH_MADE_WORLD_H_
#define ENVIRONMENTS_SEARCH_MADE_WORLD_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/task.pb.h"

namespace temper {

inline constexpr uint32_t kWorldEntitiesMin = 128;  // of each kind
inline constexpr uint32_t kWorldEntitiesMax = 20'000;
inline constexpr int kHopsMax = 3;

// What a task begins with, before its question.
inline constexpr char kWorldSystem[] = "Answer with a name.";

struct WorldPassage {
  std::string title;
  std::string text;
};

struct WorldQuestion {
  std::string question;
  std::string answer;
  bool held_out = false;
};

// One passage for each entity and as many that tell no fact, in a drawn order.
// `entities` is of each of the four kinds, here and below, and within the
// limits above (CHECKed).
std::vector<WorldPassage> WorldPassages(uint64_t seed, uint32_t entities);

// Every question of `hops` facts, 1 to kHopsMax (CHECKed), in a drawn order.
// One in ten is held out: by the CRC-32C of what it asks for, not by the seed.
std::vector<WorldQuestion> WorldQuestions(uint64_t seed, uint32_t entities,
                                          int hops);

// `train` and then `heldout` tasks of environment search, whose index is to be
// at `corpus`: of one, two and three facts in turn, no question twice.
// InvalidArgument if the world has not so many.
absl::StatusOr<std::vector<Task>> WorldTasks(uint64_t seed, uint32_t entities,
                                             const std::string& corpus,
                                             uint32_t train, uint32_t heldout);

}  // namespace temper

#endif  // ENVIRONMENTS_SEARCH_MADE_WORLD_H_
