#include "kernels/base/checksum.h"

#include "gtest/gtest.h"

namespace temper {
namespace {

// RFC 3720, appendix B.4, and the usual check value.
TEST(ChecksumTest, Crc32cMatchesPublishedValues) {
  EXPECT_EQ(Crc32c("123456789"), 0xE3069283u);
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8A9136AAu);
  EXPECT_EQ(Crc32c(std::string(32, '\xff')), 0x62A8AB43u);
  std::string ascending;
  for (int i = 0; i < 32; ++i) ascending += static_cast<char>(i);
  EXPECT_EQ(Crc32c(ascending), 0x46DD794Eu);
}

TEST(ChecksumTest, Crc32cInPiecesIsCrc32cOfTheWhole) {
  std::string data;
  for (int i = 0; i < 100; ++i) data += static_cast<char>(i * 37);
  for (size_t cut = 0; cut <= data.size(); ++cut) {
    const uint32_t first = Crc32c(data.data(), cut);
    EXPECT_EQ(Crc32c(data.data() + cut, data.size() - cut, first),
              Crc32c(data));
  }
}

// FIPS 180-4 examples.
TEST(ChecksumTest, Sha256MatchesPublishedValues) {
  EXPECT_EQ(HexOf(Sha256Of("abc")),
            "ba7816bf8f01cfea414140de5dae2223"
            "b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(HexOf(Sha256Of("")),
            "e3b0c44298fc1c149afbf4c8996fb924"
            "27ae41e4649b934ca495991b7852b855");
}

TEST(ChecksumTest, Sha256InPiecesIsSha256OfTheWhole) {
  Sha256 sha;
  sha.Update("a", 1);
  sha.Update("bc", 2);
  EXPECT_EQ(sha.Finish(), Sha256Of("abc"));
}

TEST(Sha256Test, RestartedItIsAsNew) {
  Sha256 sha;
  sha.Update("abc", 3);
  const Sha256Digest first = sha.FinishDigest();
  EXPECT_EQ(std::string(first.begin(), first.end()), Sha256Of("abc"));
  sha.Restart();
  sha.Update("de", 2);
  EXPECT_EQ(sha.Finish(), Sha256Of("de"));
}

}  // namespace
}  // namespace temper
