#include "learner/store/episode_rows.h"

#include <cstdlib>
#include <fstream>
#include <memory>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "google/protobuf/util/message_differencer.h"
#include "gtest/gtest.h"
#include "learner/intake/trajectory_fixture.h"
#include "learner/store/run_db_fixture.h"

namespace temper {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using google::protobuf::util::MessageDifferencer;
using testing::HasSubstr;

// Sets every field, messages within too and two of what repeats, each to
// another value that its type just holds.
void FillAll(Message* message, uint32_t* next);

void FillOne(Message* message, const FieldDescriptor* field, uint32_t* next) {
  const Reflection* set = message->GetReflection();
  const uint32_t number = ++*next;
  const bool many = field->is_repeated();
  const uint64_t large = (uint64_t{1} << 63) + number;
  // A zero byte in the middle, and more than ASCII.
  const std::string text =
      absl::StrCat("\xC3\xA9", std::string(1, '\0'), "x", number);
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_UINT32:
      return set->SetUInt32(message, field, 4'000'000'000u + number);
    case FieldDescriptor::CPPTYPE_UINT64:
      return set->SetUInt64(message, field, large);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return set->SetDouble(message, field, 0.1 * number);
    case FieldDescriptor::CPPTYPE_BOOL:
      return set->SetBool(message, field, true);
    case FieldDescriptor::CPPTYPE_ENUM:
      return set->SetEnumValue(message, field, 1 + number % 2);
    case FieldDescriptor::CPPTYPE_STRING:
      return set->SetString(message, field, text);
    case FieldDescriptor::CPPTYPE_MESSAGE:
      FillAll(many ? set->AddMessage(message, field)
                   : set->MutableMessage(message, field),
              next);
      if (many) FillAll(set->AddMessage(message, field), next);
      return;
    default:
      ADD_FAILURE() << field->full_name() << ": a type without a value here";
  }
}

void FillAll(Message* message, uint32_t* next) {
  const auto* descriptor = message->GetDescriptor();
  for (int i = 0; i < descriptor->field_count(); ++i) {
    FillOne(message, descriptor->field(i), next);
  }
}

// A run's database with groups 1 and 2, and its segments.
class EpisodeRowsTest : public RunDbFixture {
 protected:
  void SetUp() override {
    RunDbFixture::SetUp();
    // Beside the ledger's own, which number their files alike.
    segments_ = directory_ + "/episode_segments";
    for (const uint64_t group : {1, 2}) {
      const absl::Status issued = ledger_->IssueGroups(
          {{group, PURPOSE_TRAIN, "task", static_cast<int64_t>(group) - 1, 2,
            std::nullopt}});
      EXPECT_TRUE(issued.ok()) << issued;
    }
    writer_ = *SegmentWriter::Create(segments_, 1 << 20);
  }

  int64_t Insert(const Trajectory& trajectory, const SegmentRef& ref) {
    auto transaction = *db_->sqlite()->Begin();
    const auto id = InsertEpisode(transaction.get(), trajectory, ref,
                                  /*attempt=*/1, /*received_us=*/5);
    EXPECT_TRUE(id.ok()) << id.status();
    EXPECT_TRUE(transaction->Commit().ok());
    return id.ok() ? *id : -1;
  }

  int64_t Insert(const Trajectory& trajectory) {
    return Insert(trajectory, *writer_->Append(BulkOf(trajectory)));
  }

  absl::StatusOr<Trajectory> Load(int64_t id) {
    auto transaction = *db_->sqlite()->Begin();
    return LoadEpisode(transaction.get(), segments_, "trial", id);
  }

  std::string segments_;
  std::unique_ptr<SegmentWriter> writer_;
};

TEST_F(EpisodeRowsTest, EveryFieldComesBackAsItWas) {
  Trajectory trajectory;
  uint32_t next = 0;
  FillAll(&trajectory, &next);
  trajectory.set_wire_version(kWireVersion);
  trajectory.mutable_key()->set_run("trial");
  trajectory.mutable_key()->set_group(1);
  // What a verdict scored is kept as reward parts.
  trajectory.mutable_verdict()->clear_scores();
  const auto loaded = Load(Insert(trajectory));
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  MessageDifferencer differ;
  std::string differences;
  differ.ReportDifferencesToString(&differences);
  EXPECT_TRUE(differ.Compare(trajectory, *loaded)) << differences;
}

TEST_F(EpisodeRowsTest, EpisodesDoNotMix) {
  const Trajectory first = FixtureTrajectory(1, 0);
  Trajectory second = FixtureTrajectory(2, 1);
  *second.add_branches() = second.branches(0);
  second.mutable_branches(1)->set_routes("\1\2\1\2\1\2");
  second.clear_tool_calls();
  const int64_t first_id = Insert(first), second_id = Insert(second);
  EXPECT_NE(first_id, second_id);
  const auto loaded = Load(second_id);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_TRUE(MessageDifferencer::Equals(*loaded, second));
  EXPECT_TRUE(MessageDifferencer::Equals(*Load(first_id), first));
}

// Its empty verdict is a message that is there, with nothing in it.
TEST_F(EpisodeRowsTest, AnEpisodeWithoutRewardHasNone) {
  const Trajectory failure = FixtureFailure(1, 0);
  const auto loaded = Load(Insert(failure));
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_FALSE(loaded->has_reward());
  EXPECT_TRUE(MessageDifferencer::Equivalent(*loaded, failure));
  auto transaction = *db_->sqlite()->Begin();
  EXPECT_EQ(*transaction->QueryInt(
                "SELECT COUNT(*) FROM episode WHERE reward IS NULL", {}, -1),
            1);
}

TEST_F(EpisodeRowsTest, NothingStaysOfATransactionThatIsRolledBack) {
  const Trajectory trajectory = FixtureTrajectory(1, 0);
  const SegmentRef ref = *writer_->Append(BulkOf(trajectory));
  {
    auto transaction = *db_->sqlite()->Begin();
    ASSERT_TRUE(InsertEpisode(transaction.get(), trajectory, ref, 1, 5).ok());
  }
  auto transaction = *db_->sqlite()->Begin();
  for (const char* table : {"episode", "branch", "version_span", "turn",
                            "tool_call", "reward_part"}) {
    EXPECT_EQ(*transaction->QueryInt(
                  absl::StrCat("SELECT COUNT(*) FROM ", table).c_str(), {}, -1),
              0)
        << table;
  }
}

TEST_F(EpisodeRowsTest, TheSameDeliveryASecondTimeIsRefused) {
  const Trajectory trajectory = FixtureTrajectory(1, 0);
  Insert(trajectory);
  auto transaction = *db_->sqlite()->Begin();
  const auto again = InsertEpisode(transaction.get(), trajectory, {}, 1, 5);
  EXPECT_EQ(again.status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(EpisodeRowsTest, AnUnknownIdIsNotFoundByItsNumber) {
  const auto loaded = Load(77);
  EXPECT_EQ(loaded.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(loaded.status().message()), HasSubstr("77"));
}

TEST_F(EpisodeRowsTest, ADamagedSegmentIsDataLoss) {
  const Trajectory trajectory = FixtureTrajectory(1, 0);
  const SegmentRef ref = *writer_->Append(BulkOf(trajectory));
  const int64_t id = Insert(trajectory, ref);
  ASSERT_TRUE(Load(id).ok());
  const std::string path = SegmentPath(segments_, ref.file);
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(-1, std::ios::end);
  file.put('!');
  file.close();
  EXPECT_EQ(Load(id).status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(EpisodeRowsTest, ASegmentRecordOfAnotherShapeIsDataLoss) {
  Trajectory two = FixtureTrajectory(1, 0);
  *two.add_branches() = two.branches(0);
  const int64_t id =
      Insert(FixtureTrajectory(1, 1), *writer_->Append(BulkOf(two)));
  EXPECT_EQ(Load(id).status().code(), absl::StatusCode::kDataLoss);
  const int64_t other =
      Insert(FixtureTrajectory(2, 0), *writer_->Append("\xff\xff"));
  EXPECT_EQ(Load(other).status().code(), absl::StatusCode::kDataLoss);
}

// The rows hold the rest.
TEST_F(EpisodeRowsTest, TheBulkIsKeptSetsAndRoutesAlone) {
  const Trajectory trajectory = FixtureTrajectory(1, 0);
  Trajectory bulk;
  ASSERT_TRUE(bulk.ParseFromString(BulkOf(trajectory)));
  Trajectory want;
  Branch* branch = want.add_branches();
  branch->set_kept_offsets(trajectory.branches(0).kept_offsets());
  branch->set_kept_ids(trajectory.branches(0).kept_ids());
  branch->set_routes(trajectory.branches(0).routes());
  EXPECT_TRUE(MessageDifferencer::Equals(bulk, want));
}

}  // namespace
}  // namespace temper
