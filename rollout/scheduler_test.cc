#include "rollout/scheduler.h"

#include <memory>
#include <numeric>

#include "gtest/gtest.h"
#include "kernels/model/kv_cache.h"

namespace temper {
namespace {

class SchedulerTest : public ::testing::Test {
 protected:
  void Start(int32_t pages, int64_t tokens_max) {
    blocks_ = std::make_unique<BlockManager>(pages);
    scheduler_ = std::make_unique<Scheduler>(tokens_max, blocks_.get());
  }

  Sequence* Add(int64_t tokens, int32_t first_token) {
    sequences_.push_back(std::make_unique<Sequence>());
    Sequence* const s = sequences_.back().get();
    s->id = static_cast<int64_t>(sequences_.size());
    s->record.tokens.resize(tokens);
    std::iota(s->record.tokens.begin(), s->record.tokens.end(), first_token);
    s->running = true;
    scheduler_->Add(s);
    return s;
  }

  // What the engine does after a forward; a sampled token is appended.
  std::vector<Chunk> Step() {
    std::vector<Chunk> chunks = scheduler_->Schedule(1);
    for (const Chunk& chunk : chunks) {
      SequenceRecord& record = chunk.sequence->record;
      const size_t fed = chunk.begin + chunk.count;
      if (record.route_versions.size() < fed) {
        record.route_versions.resize(fed, 1);
      }
      if (chunk.samples) record.tokens.push_back(1000000);
    }
    scheduler_->CheckIntegrity();
    return chunks;
  }

  std::unique_ptr<BlockManager> blocks_;
  std::unique_ptr<Scheduler> scheduler_;
  std::vector<std::unique_ptr<Sequence>> sequences_;
};

TEST_F(SchedulerTest, PrefillIsChunkedToTheBudgetOnPageBoundaries) {
  Start(16, 100);
  Add(150, 0);
  std::vector<Chunk> chunks = Step();
  ASSERT_EQ(chunks.size(), 1u);
  EXPECT_EQ(chunks[0].count, 64);
  EXPECT_FALSE(chunks[0].samples);
  chunks = Step();
  ASSERT_EQ(chunks.size(), 1u);
  EXPECT_EQ(chunks[0].begin, 64);
  EXPECT_EQ(chunks[0].count, 86);
  EXPECT_TRUE(chunks[0].samples);
}

TEST_F(SchedulerTest, DecodesGoBeforePrefillsInOneForward) {
  Start(16, 128);
  Sequence* const a = Add(10, 0);
  Step();
  Sequence* const b = Add(300, 5000);
  const std::vector<Chunk> chunks = Step();
  ASSERT_EQ(chunks.size(), 2u);
  EXPECT_EQ(chunks[0].sequence, a);
  EXPECT_EQ(chunks[0].count, 1);
  EXPECT_TRUE(chunks[0].samples);
  EXPECT_EQ(chunks[1].sequence, b);
  EXPECT_EQ(chunks[1].count, 64);
}

TEST_F(SchedulerTest, SharedPreambleIsComputedOnceEvenWithinOneForward) {
  Start(64, 1024);
  for (int i = 0; i < 8; ++i) {
    Sequence* const s = Add(200, 0);
    s->record.tokens.back() = 9000 + i;  // 192 tokens alike, 8 apart
  }
  const std::vector<Chunk> chunks = Step();
  EXPECT_EQ(chunks.size(), 8u);
  EXPECT_EQ(scheduler_->stats().prefill_tokens, 200 + 7 * 8);
  EXPECT_EQ(scheduler_->stats().prefix_hit_tokens, 7 * 192);
}

TEST_F(SchedulerTest, SharedPreambleIsComputedOnceAcrossChunks) {
  Start(64, 100);
  for (int i = 0; i < 4; ++i) {
    Add(200, 0)->record.tokens.back() = 9000 + i;
  }
  for (int i = 0; i < 20; ++i) Step();
  EXPECT_EQ(scheduler_->stats().prefill_tokens, 200 + 3 * 8);
}

TEST_F(SchedulerTest, YoungestIsPreemptedWhenPagesRunOut) {
  Start(4, 256);
  Sequence* const a = Add(2 * kPageTokens - 1, 0);
  Sequence* const b = Add(2 * kPageTokens - 1, 5000);
  Step();
  EXPECT_EQ(blocks_->free_pages(), 0);
  Step();                                    // both fill their second page
  const std::vector<Chunk> chunks = Step();  // both want a third
  ASSERT_EQ(chunks.size(), 1u);
  EXPECT_EQ(chunks[0].sequence, a);
  EXPECT_TRUE(b->pages.empty());
  EXPECT_EQ(scheduler_->stats().preemptions, 1);
}

TEST_F(SchedulerTest, PreemptedSequenceResumesFromPagesStillThere) {
  Start(4, 256);
  Sequence* const a = Add(2 * kPageTokens - 1, 0);
  Sequence* const b = Add(2 * kPageTokens - 1, 5000);
  for (int i = 0; i < 3; ++i) Step();
  ASSERT_TRUE(b->pages.empty());
  scheduler_->Remove(a);
  const int64_t hits = scheduler_->stats().prefix_hit_tokens;
  const std::vector<Chunk> chunks = Step();
  ASSERT_EQ(chunks.size(), 1u);
  EXPECT_EQ(chunks[0].sequence, b);
  EXPECT_TRUE(chunks[0].samples);
  EXPECT_GE(scheduler_->stats().prefix_hit_tokens - hits, kPageTokens);
}

TEST_F(SchedulerTest, OldestRunningTakesPagesOfAnIdleOlderOne) {
  Start(2, 256);
  Sequence* const idle = Add(100, 0);
  Step();
  idle->running = false;
  Sequence* const b = Add(100, 5000);
  const std::vector<Chunk> chunks = Step();
  ASSERT_EQ(chunks.size(), 1u);
  EXPECT_EQ(chunks[0].sequence, b);
  EXPECT_TRUE(idle->pages.empty());
  // So do those of one that took them.
  b->running = false;
  Add(100, 9000);
  EXPECT_EQ(Step().size(), 1u);
  EXPECT_TRUE(b->pages.empty());
}

TEST_F(SchedulerTest, YoungerRunningDoesNotDisturbAnIdleOne) {
  Start(4, 256);
  Sequence* const a = Add(100, 0);
  Sequence* const idle = Add(100, 3000);
  Step();
  idle->running = false;
  Sequence* const c = Add(100, 6000);
  const std::vector<Chunk> chunks = Step();
  ASSERT_EQ(chunks.size(), 1u);
  EXPECT_EQ(chunks[0].sequence, a);
  EXPECT_FALSE(idle->pages.empty());
  EXPECT_EQ(c->computed, 0);
}

TEST_F(SchedulerTest, OneThatIsIdleForLongYieldsToAYoungerToo) {
  Start(6, 256);
  Add(10, 0);
  Sequence* const idle = Add(200, 3000);
  Step();
  idle->running = false;
  Step();
  Sequence* const c = Add(100, 6000);
  for (int i = 1; i < Scheduler::kIdleSchedules; ++i) {
    ASSERT_EQ(Step().size(), 1u) << i;
  }
  const std::vector<Chunk> chunks = Step();
  ASSERT_EQ(chunks.size(), 2u);
  EXPECT_EQ(chunks[1].sequence, c);
  EXPECT_TRUE(idle->pages.empty());
  // It goes on where it was.
  scheduler_->Remove(c);
  idle->running = true;
  scheduler_->Wake(idle);
  EXPECT_EQ(Step().size(), 2u);
}

TEST_F(SchedulerTest, EverySequenceFinishesUnderPressure) {
  Start(5, 100);
  for (int i = 0; i < 6; ++i) Add(90 + 10 * i, 3000 * i);
  int64_t done = 0;
  for (int step = 0; step < 5000 && done < 6; ++step) {
    for (const Chunk& chunk : Step()) {
      Sequence* const s = chunk.sequence;
      if (s->record.size() < 300) continue;
      s->running = false;
      scheduler_->Remove(s);
      ++done;
    }
  }
  EXPECT_EQ(done, 6);
  EXPECT_EQ(blocks_->free_pages(), 5);
  EXPECT_GT(scheduler_->stats().preemptions, 0);
}

TEST_F(SchedulerTest, SameCallsGiveTheSameSchedule) {
  std::vector<int64_t> runs[2];
  for (std::vector<int64_t>& run : runs) {
    Start(5, 100);
    sequences_.clear();
    for (int i = 0; i < 4; ++i) Add(90 + 10 * i, 3000 * i);
    for (int step = 0; step < 100; ++step) {
      for (const Chunk& chunk : Step()) {
        run.push_back(chunk.sequence->id);
        run.push_back(chunk.begin);
        run.push_back(chunk.count);
        run.push_back(chunk.sequence->pages.front());
      }
    }
  }
  EXPECT_EQ(runs[0], runs[1]);
}

TEST_F(SchedulerTest, PreemptAllTakesEveryPage) {
  Start(8, 256);
  Add(100, 0);
  Add(100, 5000);
  Step();
  scheduler_->PreemptAll();
  EXPECT_EQ(blocks_->free_pages(), 8);
  scheduler_->CheckIntegrity();
}

}  // namespace
}  // namespace temper
