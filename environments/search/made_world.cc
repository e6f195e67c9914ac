#include "environments/search/made_world.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <string_view>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "kernels/base/checksum.h"
#include "kernels/base/log.h"
#include "kernels/base/rng.h"
#include "nlohmann/json.hpp"

namespace temper {
namespace {

constexpr uint32_t kHeldOutModulus = 10;
// One passage of four is so long that some of its facts are on page two.
constexpr uint32_t kLongOf = 4;
constexpr int kLongFillers = 12;
constexpr int kShortFillers = 2;
constexpr int kNoteSentences = 3;

enum Kind : uint32_t { kPerson, kCompany, kTown, kRiver };
constexpr uint32_t kKinds = 4;

// What links each entity of one kind to one of another.
struct Fact {
  Kind of;
  Kind is;
  const char* asked;    // "the ASKED of NAME"
  const char* told[2];  // $x is of, $y what is asked for
  const char* past;     // what is not asked for, of $x and another, $z
};

constexpr Fact kFacts[] = {
    {kPerson,
     kCompany,
     "employer",
     {"$x works for $y.", "The employer of $x is $y."},
     "Years ago $x worked for $z."},
    {kPerson,
     kTown,
     "birthplace",
     {"$x was born in $y.", "The birthplace of $x is $y."},
     "As a child $x spent a summer in $z."},
    {kCompany,
     kTown,
     "seat",
     {"$x has its seat in $y.", "The seat of $x is $y."},
     "Until it moved, $x had its seat in $z."},
    {kCompany,
     kPerson,
     "founder",
     {"$x was founded by $y.", "The founder of $x is $y."},
     "$z tried to buy $x and failed."},
    {kTown,
     kRiver,
     "river",
     {"$x lies on the river $y.", "The river of $x is the $y."},
     "An old canal led from $x to the river $z."},
    {kTown,
     kPerson,
     "mayor",
     {"$x is governed by its mayor $y.", "The mayor of $x is $y."},
     "Before the last vote $z was mayor of $x."},
    {kRiver,
     kTown,
     "source",
     {"The $x rises near $y.", "The source of the $x is near $y."},
     "Once the $x flooded the fields of $z."},
};

// Of an entity $x they say nothing that is asked for.
constexpr const char* kFillers[] = {
    "Some say that $x has seen better days.",
    "Little is written of $x in older books.",
    "A song about $x was popular for a while.",
    "Whoever asks about $x hears many stories.",
    "$p once gave a speech about $x.",
    "In $t people know the name of $x well.",
    "A map in $t has a note on $x in its margin.",
    "$c printed a calendar with a picture of $x.",
};

constexpr const char* kNotes[] = {
    "$p and $q met by chance in $t.",
    "$c sent a letter to $d, which was never answered.",
    "The road from $t to $u was closed for a week.",
    "$p painted the $r in the rain.",
    "Rumour has it that $q likes the food in $t.",
    "A boat from $u sank in the $r, and nobody was hurt.",
};

constexpr const char* kForms[] = {"What is the $?", "Name the $.",
                                  "Which name has the $?"};

// One lane a thing, so that its draws do not hang on another's.
enum Lane : uint32_t { kNames, kTexts, kNoteTexts, kPlaces, kLinks, kOrder };

RngKey KeyOf(uint64_t seed, Lane lane, uint64_t index) {
  return {seed, RngPurpose::kTaskGenerator, index, lane, 0};
}

class Draws {
 public:
  explicit Draws(const RngKey& key) : key_(key) {}
  uint32_t Below(size_t bound) {
    const auto drawn = static_cast<uint32_t>(UniformBelow(key_, bound));
    ++key_.ordinal;
    return drawn;
  }
  template <typename T>
  const T& Of(const std::vector<T>& all) {
    return all[Below(all.size())];
  }

 private:
  RngKey key_;
};

// Three syllables and an end: 14^3 * 5^3 * 8 names.
std::string InventedName(Draws* draws) {
  static constexpr std::string_view kOnsets = "bdfgklmnprstvz";
  static constexpr std::string_view kVowels = "aeiou";
  static constexpr const char* kEnds[] = {"n",  "r", "l", "s",
                                          "th", "k", "m", ""};
  std::string name;
  for (int syllable = 0; syllable < 3; ++syllable) {
    name += kOnsets[draws->Below(kOnsets.size())];
    name += kVowels[draws->Below(kVowels.size())];
  }
  name += kEnds[draws->Below(std::size(kEnds))];
  name[0] = static_cast<char>(name[0] - 'a' + 'A');
  return name;
}

class World {
 public:
  World(uint64_t seed, uint32_t entities) : seed_(seed), entities_(entities) {
    CHECK_GE(entities, kWorldEntitiesMin);
    CHECK_LE(entities, kWorldEntitiesMax);
    MakeNames();
    for (size_t fact = 0; fact < std::size(kFacts); ++fact) {
      links_.push_back(Permutation(KeyOf(seed, kLinks, fact), entities));
    }
  }

  std::vector<WorldPassage> Passages() const {
    const uint32_t all = kKinds * entities_;
    std::vector<WorldPassage> passages(2 * all);
    // A passage's number must not tell what it is linked to.
    const std::vector<uint32_t> places =
        Permutation(KeyOf(seed_, kPlaces, 0), 2 * all);
    for (uint32_t i = 0; i < all; ++i) {
      const auto kind = static_cast<Kind>(i % kKinds);
      const uint32_t entity = i / kKinds;
      passages[places[i]] = {names_[kind][entity], TextOf(kind, entity)};
      passages[places[all + i]] = {absl::StrCat("Notes of day ", i + 1),
                                   Note(i)};
    }
    return passages;
  }

  std::vector<WorldQuestion> Questions(int hops) const {
    CHECK(hops >= 1 && hops <= kHopsMax) << hops;
    std::vector<WorldQuestion> all;
    for (const Kind kind : {kPerson, kCompany, kTown, kRiver}) {
      for (uint32_t entity = 0; entity < entities_; ++entity) {
        Follow(kind, entity, names_[kind][entity], hops, &all);
      }
    }
    std::vector<WorldQuestion> drawn;
    for (const uint32_t at :
         Permutation(KeyOf(seed_, kOrder, static_cast<uint64_t>(hops)),
                     static_cast<uint32_t>(all.size()))) {
      drawn.push_back(std::move(all[at]));
    }
    return drawn;
  }

 private:
  void MakeNames() {
    static constexpr const char* kTrades[] = {"Mills", "Works", "Lines",
                                              "Bank"};
    Draws draws(KeyOf(seed_, kNames, 0));
    std::set<std::string> taken;
    const auto fresh = [&] {
      std::string name;
      do {
        name = InventedName(&draws);
      } while (!taken.insert(name).second);
      return name;
    };
    // Few first and last names, so that many people share one or the other.
    std::vector<std::string> first, last;
    for (uint32_t i = 0; i < entities_ / 8; ++i) {
      first.push_back(fresh());
      last.push_back(fresh());
    }
    for (uint32_t i = 0; i < entities_; ++i) {
      names_[kTown].push_back(fresh());
      names_[kRiver].push_back(fresh());
      // After a town, in which as a rule it does not have its seat.
      names_[kCompany].push_back(
          absl::StrCat(names_[kTown].back(), " ", kTrades[draws.Below(4)]));
      std::string person;
      do {
        person = absl::StrCat(draws.Of(first), " ", draws.Of(last));
      } while (!taken.insert(person).second);
      names_[kPerson].push_back(person);
    }
  }

  const std::vector<uint32_t>& LinksOf(const Fact& fact) const {
    return links_[&fact - kFacts];
  }

  std::string Tell(const Fact& fact, uint32_t entity, Draws* draws) const {
    const uint32_t is = LinksOf(fact)[entity];
    const uint32_t other = (is + 1 + draws->Below(entities_ - 1)) % entities_;
    std::string now = fact.told[draws->Below(2)], past = fact.past;
    // The past comes first or last, so that the order says nothing.
    if (draws->Below(2) == 0) std::swap(now, past);
    return absl::StrReplaceAll(absl::StrCat(now, " ", past),
                               {{"$x", names_[fact.of][entity]},
                                {"$y", names_[fact.is][is]},
                                {"$z", names_[fact.is][other]}});
  }

  // `sentence` about $x with others in it.
  std::string Fill(const char* sentence, const std::string& x,
                   Draws* draws) const {
    return absl::StrReplaceAll(sentence, {{"$x", x},
                                          {"$p", draws->Of(names_[kPerson])},
                                          {"$q", draws->Of(names_[kPerson])},
                                          {"$c", draws->Of(names_[kCompany])},
                                          {"$d", draws->Of(names_[kCompany])},
                                          {"$t", draws->Of(names_[kTown])},
                                          {"$u", draws->Of(names_[kTown])},
                                          {"$r", draws->Of(names_[kRiver])}});
  }

  std::string TextOf(Kind kind, uint32_t entity) const {
    Draws draws(KeyOf(seed_, kTexts, uint64_t{entity} * kKinds + kind));
    const int fillers =
        draws.Below(kLongOf) == 0 ? kLongFillers : kShortFillers;
    std::vector<std::string> sentences;
    for (int i = 0; i < fillers; ++i) {
      sentences.push_back(Fill(kFillers[draws.Below(std::size(kFillers))],
                               names_[kind][entity], &draws));
    }
    for (const Fact& fact : kFacts) {
      if (fact.of != kind) continue;
      const auto place = sentences.begin() + draws.Below(sentences.size() + 1);
      sentences.insert(place, Tell(fact, entity, &draws));
    }
    return absl::StrJoin(sentences, " ");
  }

  std::string Note(uint32_t number) const {
    Draws draws(KeyOf(seed_, kNoteTexts, number));
    std::vector<std::string> sentences;
    for (int i = 0; i < kNoteSentences; ++i) {
      sentences.push_back(
          Fill(kNotes[draws.Below(std::size(kNotes))], "", &draws));
    }
    return absl::StrJoin(sentences, " ");
  }

  // Adds the questions that end `hops` facts behind `entity`, to which `asked`
  // leads.
  void Follow(Kind kind, uint32_t entity, const std::string& asked, int hops,
              std::vector<WorldQuestion>* questions) const {
    for (const Fact& fact : kFacts) {
      if (fact.of != kind) continue;
      const std::string further = absl::StrCat(fact.asked, " of ", asked);
      const uint32_t is = LinksOf(fact)[entity];
      if (hops > 1) {
        Follow(fact.is, is, absl::StrCat("the ", further), hops - 1, questions);
        continue;
      }
      const std::string& answer = names_[fact.is][is];
      // A company's name has a town's, and a way may lead back to where it
      // began.
      if (absl::StrContains(further, answer)) continue;
      const uint32_t crc = Crc32c(further);
      const char* const form =
          kForms[crc / kHeldOutModulus % std::size(kForms)];
      questions->push_back(
          {.question = absl::StrReplaceAll(form, {{"$", further}}),
           .answer = answer,
           .held_out = crc % kHeldOutModulus == 0});
    }
  }

  const uint64_t seed_;
  const uint32_t entities_;
  std::vector<std::string> names_[kKinds];    // [entities]
  std::vector<std::vector<uint32_t>> links_;  // [facts][entities]
};

Task TaskOf(const WorldQuestion& question, const std::string& corpus,
            uint32_t number, int hops) {
  Task task;
  const char* const split = question.held_out ? "heldout" : "train";
  task.set_id(absl::StrFormat("%s-%06d-%dhop", split, number, hops));
  task.set_split(split);
  task.set_environment("search");
  Message* const system = task.add_messages();
  system->set_role("system");
  system->set_content(kWorldSystem);
  Message* const user = task.add_messages();
  user->set_role("user");
  user->set_content(question.question);
  task.set_payload_json(nlohmann::ordered_json{
      {"corpus", corpus},
      {"answer",
       question.answer}}.dump());
  return task;
}

}  // namespace

std::vector<WorldPassage> WorldPassages(uint64_t seed, uint32_t entities) {
  return World(seed, entities).Passages();
}

std::vector<WorldQuestion> WorldQuestions(uint64_t seed, uint32_t entities,
                                          int hops) {
  return World(seed, entities).Questions(hops);
}

absl::StatusOr<std::vector<Task>> WorldTasks(uint64_t seed, uint32_t entities,
                                             const std::string& corpus,
                                             uint32_t train, uint32_t heldout) {
  std::vector<std::vector<WorldQuestion>> questions;
  for (int hops = 1; hops <= kHopsMax; ++hops) {
    questions.push_back(WorldQuestions(seed, entities, hops));
  }
  std::vector<Task> tasks;
  for (const bool held_out : {false, true}) {
    std::vector<size_t> next(kHopsMax);
    const uint32_t count = held_out ? heldout : train;
    for (uint32_t number = 0; number < count; ++number) {
      const size_t kind = number % kHopsMax;
      const auto& all = questions[kind];
      size_t& at = next[kind];
      while (at < all.size() && all[at].held_out != held_out) ++at;
      if (at == all.size()) {
        return absl::InvalidArgumentError(absl::StrCat(
            "a world of ", entities, " entities of each kind has no more than ",
            number, held_out ? " held-out" : " train",
            " tasks; ask for fewer, or for more entities"));
      }
      tasks.push_back(
          TaskOf(all[at++], corpus, number, static_cast<int>(kind) + 1));
    }
  }
  return tasks;
}

}  // namespace temper
