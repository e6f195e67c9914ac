// What a step may not do once it has been warm: wait for the device more than
// once in a decode step and twice in a training pack, take memory, or take a
// lock.

#include <dlfcn.h>
#include <pthread.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/base/float_mode.h"
#include "kernels/base/mutex.h"
#include "kernels/base/sanitized.h"
#include "kernels/find_backend.h"
#include "kernels/model/test_model.h"
#include "kernels/ops/testing/counting_backend.h"
#include "learner/train/train_step.h"
#include "rollout/engine.h"
#include "tests/delivery.h"

namespace {

// Calls of operator new and locks of a mutex while somebody counts, on any
// thread.
std::atomic<bool> counting{false};
std::atomic<int64_t> news{0};
std::atomic<int64_t> locks{0};

void* CountedNew(std::size_t bytes) {
  if (counting.load(std::memory_order_relaxed)) ++news;
  void* const memory = std::malloc(bytes == 0 ? 1 : bytes);
  if (memory == nullptr) std::abort();
  return memory;
}

}  // namespace

void* operator new(std::size_t bytes) { return CountedNew(bytes); }
void* operator new[](std::size_t bytes) { return CountedNew(bytes); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept {
  std::free(memory);
}

// Stands before the C library's, for every mutex of this program. Sanitizers
// have one of their own here, and locks are not counted then.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
extern "C" int pthread_mutex_lock(pthread_mutex_t* mutex) {
  using Lock = int (*)(pthread_mutex_t*);
  static const auto lock =
      reinterpret_cast<Lock>(dlsym(RTLD_NEXT, "pthread_mutex_lock"));
  if (counting.load(std::memory_order_relaxed)) ++locks;
  return lock(mutex);
}
#endif

namespace temper {
namespace {

constexpr int kSequences = 6;
constexpr int64_t kSampled = 200;

// Counts what is done between construction and Done.
class Watch {
 public:
  explicit Watch(const CountingBackend& backend)
      : backend_(backend),
        allocations_(backend.allocations()),
        reads_(backend.blocking_reads()),
        uploads_(backend.uploads()) {
    news = 0;
    locks = 0;
    counting = true;
  }
  struct Counts {
    int64_t allocations, reads, uploads, news, locks;
  };
  Counts Done() {
    counting = false;
    return {backend_.allocations() - allocations_,
            backend_.blocking_reads() - reads_, backend_.uploads() - uploads_,
            news, locks};
  }

 private:
  const CountingBackend& backend_;
  const int64_t allocations_, reads_, uploads_;
};

// Sequences of unlike prompts and options, of which none stops before its
// kSampled tokens.
std::vector<int64_t> OpenAll(Engine* engine) {
  std::vector<int64_t> ids;
  for (int i = 0; i < kSequences; ++i) {
    SequenceOptions options;
    options.key = {7, static_cast<uint64_t>(i / 2),
                   static_cast<uint32_t>(i % 2)};
    options.stop_token = -1;
    if (i % 3 == 1) options.sampling.top_k = 40;
    if (i % 3 == 2) options.sampling.min_p = 0.3f;
    options.sampling.temperature = i % 2 == 0 ? 1.0f : 0.8f;
    if (i == 4) options.mask = SamplingMask::kDrop;
    ids.push_back(*engine->Open(options));
    const absl::Status status = engine->Extend(
        ids.back(), RandomTokens(engine->config(), i / 2, 40 + 30 * (i % 2)),
        kSampled);
    EXPECT_TRUE(status.ok()) << status;
  }
  return ids;
}

std::vector<SequenceRecord> RecordsOf(const Engine& engine,
                                      const std::vector<int64_t>& ids) {
  std::vector<SequenceRecord> records;
  for (const int64_t id : ids) records.push_back(engine.record(id));
  return records;
}

class SteadyStepTest : public testing::TestWithParam<Numerics> {
 protected:
  SteadyStepTest() { SetFlushDenormals(); }
};

TEST_P(SteadyStepTest, ADecodeStepReadsOnceAndTakesNoMemory) {
  for (const bool buckets : {false, true}) {
    SCOPED_TRACE(buckets);
    auto inner = *FindBackend({.threads = 2});
    CountingBackend backend(inner.get(), buckets);
    const ModelConfig config = TinyConfig();
    const auto weights =
        RandomModel(&backend, config, 5, Passes::kForward, GetParam());
    auto engine = *Engine::Create(&backend, weights.get(), 1, {.pages = 40});
    // Warm at the largest: as many sequences, as long as they get.
    for (const int64_t id : OpenAll(engine.get())) {
      while (engine->has_running()) ASSERT_TRUE(engine->Step().ok());
      engine->Close(id);
    }
    OpenAll(engine.get());
    for (int i = 0; i < 4; ++i) ASSERT_TRUE(engine->Step().ok());
    // Across the borders of several pages, which are named and offered.
    for (int64_t step = 0; step < kSampled - 20; ++step) {
      Watch watch(backend);
      const auto stopped = engine->Step();
      const Watch::Counts counts = watch.Done();
      ASSERT_TRUE(stopped.ok() && stopped->empty());
      ASSERT_EQ(counts.reads, 1) << step;
      ASSERT_LE(counts.uploads, 2) << step;
      ASSERT_EQ(counts.allocations, 0) << step;
      ASSERT_EQ(counts.news, 0) << step;
    }
  }
}

// A thread pool wakes its threads under a lock; there is none for a token, so a
// step of one thread takes none at all.
TEST_P(SteadyStepTest, ADecodeStepOfOneThreadTakesNoLock) {
  auto inner = *FindBackend({.threads = 1});
  CountingBackend backend(inner.get());
  const auto weights =
      RandomModel(&backend, TinyConfig(), 5, Passes::kForward, GetParam());
  auto engine = *Engine::Create(&backend, weights.get(), 1, {.pages = 40});
  OpenAll(engine.get());
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(engine->Step().ok());
  for (int step = 0; step < 100; ++step) {
    Watch watch(backend);
    ASSERT_TRUE(engine->Step().ok());
    ASSERT_EQ(watch.Done().locks, 0) << step;
  }
  // The count sees a mutex of ours.
  Mutex mutex;
  Watch watch(backend);
  { MutexLock lock(&mutex); }
  EXPECT_EQ(watch.Done().locks, kSanitized ? 0 : 1);
}

// What a device captured of one decode step it can replay for another: of as
// many sequences or fewer, with none of its tensors elsewhere.
TEST_P(SteadyStepTest, StepsOfABucketHaveTheSameTensors) {
  auto inner = *FindBackend({.threads = 2});
  CountingBackend backend(inner.get(), /*buckets=*/true);
  const auto weights =
      RandomModel(&backend, TinyConfig(), 5, Passes::kForward, GetParam());
  auto engine = *Engine::Create(&backend, weights.get(), 1, {.pages = 40});
  const std::vector<int64_t> ids = OpenAll(engine.get());
  // Of prompts of 70 tokens at most, within their second page.
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(engine->Step().ok());
  std::vector<uint64_t> digests;  // of steps of 6, 5 and 4 sequences
  for (int closed = 0; closed <= 2; ++closed) {
    if (closed > 0) engine->Close(ids[closed]);
    for (int step = 0; step < 2; ++step) {
      backend.TakeDigest();
      ASSERT_TRUE(engine->Step().ok());
      digests.push_back(backend.TakeDigest());
    }
  }
  EXPECT_EQ(digests[1], digests[0]);
  EXPECT_EQ(digests[2], digests[0]);
  EXPECT_EQ(digests[3], digests[0]);
  EXPECT_NE(digests[4], digests[0]);  // four are a bucket of their own
  EXPECT_EQ(digests[5], digests[4]);
}

// The rows that fill a batch up change nothing.
TEST_P(SteadyStepTest, PaddedBatchesHaveTheSameRecords) {
  std::vector<SequenceRecord> records[2];
  for (const bool buckets : {false, true}) {
    auto inner = *FindBackend({});
    CountingBackend backend(inner.get(), buckets);
    const auto weights =
        RandomModel(&backend, TinyConfig(), 5, Passes::kForward, GetParam());
    // Few pages: preempted and prefilled again, routes replayed.
    auto engine = *Engine::Create(&backend, weights.get(), 1, {.pages = 12});
    const std::vector<int64_t> ids = OpenAll(engine.get());
    while (engine->has_running()) ASSERT_TRUE(engine->Step().ok());
    EXPECT_GT(engine->stats().scheduler.preemptions, 0);
    records[buckets] = RecordsOf(*engine, ids);
  }
  for (int i = 0; i < kSequences; ++i) {
    EXPECT_EQ(records[0][i].tokens, records[1][i].tokens);
    EXPECT_EQ(records[0][i].logprobs, records[1][i].logprobs);
    EXPECT_EQ(records[0][i].kept_ids, records[1][i].kept_ids);
    EXPECT_EQ(records[0][i].routes, records[1][i].routes);
  }
}

// A pack's forward, log-probabilities and backward: what stands between them is
// arithmetic on a few numbers a token, of the objective.
void RunPack(CountingBackend* backend, const PublishedWeights& weights,
             Transformer* transformer, Tape* tape, TokenLogProb* logprob,
             PackedBatch* packed, const std::vector<float>& dlogp,
             ModelGradients* gradients, const Tensor& agreement) {
  ForwardOptions options;
  options.read_routes = false;
  options.agreement = agreement;
  backend->Zero(agreement);
  Tensor hidden;
  ASSERT_TRUE(
      transformer->Forward(&packed->batch, nullptr, tape, options, &hidden)
          .ok());
  const auto logp = logprob->Forward(weights, hidden, *packed, 1, true);
  ASSERT_TRUE(logp.ok());
  int64_t agreed = 0;
  ASSERT_TRUE(backend->Read(agreement, &agreed).ok());
  const auto dhidden = logprob->Backward(weights, dlogp, gradients);
  ASSERT_TRUE(dhidden.ok());
  transformer->Backward(tape, *dhidden, gradients);
}

// Finished episodes of all sequences, two of a group.
std::vector<Episode> SampledEpisodes(Backend* backend,
                                     const ModelConfig& config,
                                     const Numerics& numerics) {
  const auto sampler =
      RandomModel(backend, config, 5, Passes::kForward, numerics);
  auto engine = *Engine::Create(backend, sampler.get(), 1, {.pages = 40});
  const std::vector<int64_t> ids = OpenAll(engine.get());
  while (engine->has_running()) EXPECT_TRUE(engine->Step().ok());
  return Deliver(config, RecordsOf(*engine, ids), /*group_size=*/2);
}

TEST_P(SteadyStepTest, ATrainingPackReadsTwiceAndTakesNoMemory) {
  auto inner = *FindBackend({.threads = 2});
  CountingBackend backend(inner.get());
  const ModelConfig config = TinyConfig();
  const std::vector<Episode> episodes =
      SampledEpisodes(&backend, config, GetParam());
  std::vector<const Episode*> batch;
  for (const Episode& episode : episodes) batch.push_back(&episode);
  const auto weights =
      RandomModel(&backend, config, 5, Passes::kForwardAndBackward, GetParam());
  const auto gradients = *ModelGradients::Create(&backend, config);
  const auto transformer = *Transformer::Create(&backend, weights.get(), 2048);
  const auto tape = *transformer->NewTape(2048);
  const auto room = *backend.Allocate(sizeof(int64_t));
  const Tensor agreement(room->data(), DType::kI64, {1}, backend.device());
  TokenLogProb logprob(&backend);
  for (const int64_t rows : {2048, 600}) {  // the largest, then several
    auto packs =
        *PackEpisodes(config, batch, rows, true, PrefixSharing::kShared);
    for (PackedBatch& packed : packs) {
      const std::vector<float> dlogp(packed.sampled.size(), 0.01f);
      const bool warm = rows < 2048;
      Watch watch(backend);
      RunPack(&backend, *weights, transformer.get(), tape.get(), &logprob,
              &packed, dlogp, gradients.get(), agreement);
      const Watch::Counts counts = watch.Done();
      EXPECT_EQ(counts.reads, 2);
      if (!warm) continue;
      EXPECT_EQ(counts.allocations, 0);
      EXPECT_EQ(counts.news, 0);
      EXPECT_LE(counts.uploads, 3);
    }
  }
}

// With a reference its packs, which lie as the learner's, wait once each.
TEST_P(SteadyStepTest, ATrainingStepReadsTwiceAPackAndOnceForTheNorm) {
  auto inner = *FindBackend({.threads = 2});
  CountingBackend backend(inner.get());
  const ModelConfig config = TinyConfig();
  const std::vector<Episode> episodes =
      SampledEpisodes(&backend, config, GetParam());
  std::vector<const Episode*> batch;
  for (const Episode& episode : episodes) batch.push_back(&episode);
  const auto reference =
      RandomModel(&backend, config, 5, Passes::kForward, GetParam());

  for (const bool refers : {false, true}) {
    SCOPED_TRACE(refers);
    const TrainableModel model =
        TrainableOf(&backend, config, RandomValues(config, 5), GetParam());
    auto optimizer =
        *Optimizer::Create(&backend, model.masters.get(), model.weights.get(),
                           {ParameterGroup::kMain});
    TrainStepOptions options;
    options.objective.set_kl_coef(refers ? 0.001 : 0);
    options.tokens_max = 600;  // two packs of three episodes
    auto step = *TrainStep::Create(&backend, model.weights.get(),
                                   refers ? reference.get() : nullptr,
                                   optimizer.get(), options);
    ASSERT_TRUE(step->Run(batch, 1, 1e-4).ok());
    Watch watch(backend);
    const auto metrics = step->Run(batch, 1, 1e-4);
    const Watch::Counts counts = watch.Done();
    ASSERT_TRUE(metrics.ok()) << metrics.status();
    const auto packs = static_cast<int64_t>(
        PackEpisodes(config, batch, options.tokens_max, /*keep_routing=*/true,
                     PrefixSharing::kShared)
            ->size());
    EXPECT_GT(packs, 1);
    // The gradient norm is one more, of the update.
    EXPECT_LE(counts.reads, (refers ? 3 : 2) * packs + 1);
    EXPECT_EQ(counts.allocations, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(, SteadyStepTest, testing::Values(kFp32, kBf16, kFp8),
                         [](const auto& info) { return NameOf(info.param); });

}  // namespace
}  // namespace temper
