#include "proto/wire/trajectory_stream.h"

#include <vector>

#include "gtest/gtest.h"

namespace temper {
namespace {

Trajectory MakeTrajectory(size_t bytes) {
  Trajectory trajectory;
  trajectory.mutable_key()->set_group(7);
  trajectory.mutable_key()->set_sample(3);
  trajectory.add_branches()->set_tokens(std::string(bytes, 'x'));
  return trajectory;
}

std::vector<WorkerMessage> Messages(const Trajectory& trajectory) {
  std::vector<WorkerMessage> messages;
  EXPECT_TRUE(SendTrajectory(trajectory, [&](const WorkerMessage& message) {
                messages.push_back(message);
                return absl::OkStatus();
              }).ok());
  return messages;
}

absl::StatusOr<std::string> Receive(
    const std::vector<WorkerMessage>& messages) {
  TrajectoryAssembler assembler;
  for (const WorkerMessage& message : messages) {
    absl::Status status;
    if (message.has_header()) status = assembler.Header(message.header());
    if (message.has_chunk()) status = assembler.Chunk(message.chunk());
    if (!status.ok()) return status;
    if (message.has_end()) return assembler.End(message.end());
  }
  return absl::UnavailableError("no end");
}

TEST(TrajectoryStreamTest, LongTrajectoriesArriveWholeInBoundedChunks) {
  const Trajectory sent = MakeTrajectory(3 << 20);
  const auto messages = Messages(sent);
  for (const WorkerMessage& message : messages) {
    EXPECT_LE(message.chunk().data().size(), static_cast<size_t>(kChunkBytes));
  }
  const auto bytes = Receive(messages);
  ASSERT_TRUE(bytes.ok());
  EXPECT_EQ(*bytes, sent.SerializeAsString());
}

TEST(TrajectoryStreamTest, AFlippedByteIsDataLoss) {
  auto messages = Messages(MakeTrajectory(100));
  (*messages[1].mutable_chunk()->mutable_data())[50] ^= 1;
  EXPECT_EQ(Receive(messages).status().code(), absl::StatusCode::kDataLoss);
}

TEST(TrajectoryStreamTest, AMissingChunkIsRefused) {
  auto messages = Messages(MakeTrajectory(3 << 20));
  messages.erase(messages.begin() + 2);
  EXPECT_EQ(Receive(messages).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(TrajectoryStreamTest, AnAnnouncementAboveTheLimitIsRefused) {
  TrajectoryAssembler assembler;
  TrajectoryHeader header;
  header.set_size_bytes(uint64_t{1} << 40);
  EXPECT_EQ(assembler.Header(header).code(),
            absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace temper
