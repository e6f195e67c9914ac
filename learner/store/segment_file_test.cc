#include "learner/store/segment_file.h"

#include <cstdlib>

#include "gtest/gtest.h"
#include "kernels/base/file.h"

namespace temper {
namespace {

std::string FreshDirectory() {
  static int next = 0;
  return std::string(getenv("TEST_TMPDIR")) + "/segments" +
         std::to_string(next++);
}

void FlipByte(const std::string& path, size_t at) {
  std::string bytes = *ReadFile(path, 1 << 20);
  bytes[at] = static_cast<char>(bytes[at] ^ 1);
  ASSERT_TRUE(WriteFileDurably(path, bytes).ok());
}

TEST(SegmentFileTest, RecordsAreReadBackByTheirPointers) {
  const std::string directory = FreshDirectory();
  auto writer = *SegmentWriter::Create(directory, 1 << 20);
  const SegmentRef first = *writer->Append("first");
  const SegmentRef empty = *writer->Append("");
  const SegmentRef third = *writer->Append(std::string(1000, 'x'));
  EXPECT_EQ(*ReadSegment(directory, first), "first");
  EXPECT_EQ(*ReadSegment(directory, empty), "");
  EXPECT_EQ(*ReadSegment(directory, third), std::string(1000, 'x'));
}

TEST(SegmentFileTest, AFullFileIsFollowedByAnother) {
  const std::string directory = FreshDirectory();
  auto writer = *SegmentWriter::Create(directory, 64);
  const SegmentRef a = *writer->Append(std::string(60, 'a'));
  const SegmentRef b = *writer->Append("b");
  EXPECT_EQ(a.file, 1u);
  EXPECT_EQ(b.file, 2u);
  EXPECT_EQ(*ReadSegment(directory, b), "b");
}

TEST(SegmentFileTest, ANewWriterLeavesATornTailAlone) {
  const std::string directory = FreshDirectory();
  SegmentRef kept;
  {
    auto writer = *SegmentWriter::Create(directory, 1 << 20);
    kept = *writer->Append("kept");
    ASSERT_TRUE(writer->Append("torn by a crash").ok());
  }
  const std::string path = SegmentPath(directory, 1);
  const std::string whole = *ReadFile(path, 1 << 20);
  ASSERT_TRUE(WriteFileDurably(path, whole.substr(0, whole.size() - 3)).ok());
  auto writer = *SegmentWriter::Create(directory, 1 << 20);
  const SegmentRef after = *writer->Append("after");
  EXPECT_EQ(after.file, 2u);
  EXPECT_EQ(*ReadSegment(directory, kept), "kept");
  EXPECT_EQ(*ReadSegment(directory, after), "after");
}

TEST(SegmentFileTest, AnyFlippedByteOfARecordIsDataLoss) {
  const std::string directory = FreshDirectory();
  auto writer = *SegmentWriter::Create(directory, 1 << 20);
  const SegmentRef ref = *writer->Append("payload");
  const std::string path = SegmentPath(directory, ref.file);
  for (size_t at = ref.offset; at < ref.offset + 16 + ref.size; ++at) {
    FlipByte(path, at);
    EXPECT_TRUE(absl::IsDataLoss(ReadSegment(directory, ref).status())) << at;
    FlipByte(path, at);
  }
  EXPECT_EQ(*ReadSegment(directory, ref), "payload");
}

TEST(SegmentFileTest, APointerToAnotherRecordIsDataLoss) {
  const std::string directory = FreshDirectory();
  auto writer = *SegmentWriter::Create(directory, 1 << 20);
  SegmentRef a = *writer->Append("aaaa");
  const SegmentRef b = *writer->Append("bbbb");
  a.offset = b.offset;
  EXPECT_TRUE(absl::IsDataLoss(ReadSegment(directory, a).status()));
}

}  // namespace
}  // namespace temper
