// What the sampler recorded against what the learner computes of it: the
// comparison that promise P1 is held to, for tests of zero mismatch on any
// backend. Each CHECKs that it works; those named Expect.. are expectations of
// the test that calls them, `what` for their messages.

#ifndef TESTS_MISMATCH_H_
#define TESTS_MISMATCH_H_

#include <cstdint>
#include <string>
#include <vector>

#include "learner/train/packer.h"
#include "rollout/engine.h"
#include "tests/delivery.h"
#include "tests/trial_model.h"

namespace temper {

struct SamplerSetup {
  int together = 8;  // sequences at once
  int64_t batch_tokens = 2048;
  int32_t pages = 1024;
  SampleOptions sampling;
  SamplingMask mask = SamplingMask::kKeep;
};

struct Sampled {
  std::vector<SequenceRecord> records;
  EngineStats stats;
};

// Samples conversations [begin, begin + setup.together), `count` at most, and
// closes them.
void SampleTogether(const TrialModel& model, const SamplerSetup& setup,
                    int begin, int count, Engine* engine, Sampled* sampled);

// Two turns of the first `count` conversations, as one engine records them.
Sampled SampleAll(Backend* backend, const TrialModel& model,
                  const SamplerSetup& setup, int count);

struct Comparison {
  int64_t tokens = 0;
  int64_t different = 0;
  int64_t rows = 0;           // that the learner computed
  int64_t rows_unshared = 0;  // that it would without sharing
};

struct LearnerSetup {
  PrefixSharing sharing = PrefixSharing::kShared;
  int together = kConversations;  // episodes of a forward, at most
  bool keep_sampling_mask = true;
};

// The learner's log-probabilities against the sampler's record.
Comparison Compare(Backend* backend, const TrialModel& model,
                   const std::vector<Episode>& episodes, float temperature,
                   const LearnerSetup& setup);

bool SameRecord(const SequenceRecord& a, const SequenceRecord& b);

// That each conversation went as it did alone.
void ExpectAsAlone(const Sampled& sampled,
                   const std::vector<SequenceRecord>& alone,
                   const std::string& what);

// That no log-probability of a sampled token differs, of more than two tokens a
// conversation, and that the learner shared prefixes if it was to and could.
void ExpectZeroMismatch(Backend* learner, const TrialModel& model,
                        const Sampled& sampled, float temperature,
                        const LearnerSetup& setup, const std::string& what);

// Makes conversations whose prompts share no beginning: nothing is found in the
// cache, and training has nothing to share.
void MakePromptsDiffer(TrialModel* model);

}  // namespace temper

#endif  // TESTS_MISMATCH_H_
