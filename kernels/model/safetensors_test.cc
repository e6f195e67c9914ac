#include "kernels/model/safetensors.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace temper {
namespace {

std::string TempPath(const std::string& name) {
  return absl::StrCat(std::getenv("TEST_TMPDIR"), "/", name);
}

std::string FileOf(const std::string& header, const std::string& data) {
  std::string file(8, '\0');
  const uint64_t length = header.size();
  std::memcpy(file.data(), &length, 8);
  return file + header + data;
}

// Why the bytes are refused; empty if they are not.
std::string Refusal(const std::string& bytes) {
  const std::string path = TempPath("refused.safetensors");
  EXPECT_TRUE(WriteFileDurably(path, bytes).ok());
  const auto file = Safetensors::Open(path);
  if (file.ok()) return "";
  EXPECT_EQ(file.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_TRUE(absl::StrContains(std::string(file.status().message()), path));
  return std::string(file.status().message());
}

std::string TwoTensors(const std::string& first, const std::string& second) {
  return FileOf(absl::StrCat("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],",
                             "\"data_offsets\":", first, "},",
                             "\"b\":{\"dtype\":\"U8\",\"shape\":[3],",
                             "\"data_offsets\":", second, "}}"),
                std::string(11, 'x'));
}

SafetensorsEntry EntryOf(const std::string& name, const std::string& dtype,
                         std::vector<int64_t> shape, const std::string& bytes) {
  return {name, dtype, std::move(shape),
          reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()};
}

TEST(SafetensorsTest, SaysTheFormatThatOtherReadersAskFor) {
  const std::string path = TempPath("format.safetensors");
  ASSERT_TRUE(WriteSafetensors(path, {EntryOf("a", "U8", {1}, "x")}).ok());
  EXPECT_TRUE(absl::StrContains(*ReadFile(path, 1 << 20),
                                "\"__metadata__\":{\"format\":\"pt\"}"));
}

TEST(SafetensorsTest, WhatItWritesReadsBackEqual) {
  const std::string a(24, 'a'), b = "bcd", empty;
  const std::string path = TempPath("round.safetensors");
  ASSERT_TRUE(WriteSafetensors(path, {EntryOf("z", "F32", {2, 3}, a),
                                      EntryOf("none", "I64", {0, 4}, empty),
                                      EntryOf("b", "U8", {3}, b)})
                  .ok());
  const auto file = Safetensors::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_EQ((*file)->entries().size(), 3u);
  const SafetensorsEntry* z = (*file)->Find("z");
  ASSERT_NE(z, nullptr);
  EXPECT_EQ(z->dtype, "F32");
  EXPECT_EQ(z->ShapeString(), "[2, 3]");
  EXPECT_EQ(std::memcmp(z->data, a.data(), 24), 0);
  EXPECT_EQ(std::memcmp((*file)->Find("b")->data, "bcd", 3), 0);
  EXPECT_EQ((*file)->Find("none")->bytes, 0u);
  EXPECT_EQ((*file)->Find("y"), nullptr);
}

TEST(SafetensorsTest, RefusesFilesThatBreakARule) {
  EXPECT_EQ(Refusal(TwoTensors("[0,8]", "[8,11]")), "");
  const auto refused = [](const std::string& bytes, const std::string& why) {
    const std::string message = Refusal(bytes);
    EXPECT_TRUE(absl::StrContains(message, why)) << message << " / " << why;
  };
  refused("abc", "truncated");
  refused(FileOf("{}", "").substr(0, 9), "claims a header");
  refused(std::string("\xff\xff\xff\xff\xff\xff\xff\xff{}", 10), "claims");
  refused(FileOf(" {}", ""), "start with '{'");
  refused(FileOf("{", ""), "not valid JSON");
  refused(FileOf("{\"a\":1,\"a\":2}", ""), "twice");
  refused(FileOf("{}", "x"), "after the last tensor");
  refused(TwoTensors("[0,8]", "[7,10]"), "hole or an overlap");
  refused(TwoTensors("[1,9]", "[8,11]"), "hole or an overlap");
  refused(TwoTensors("[0,4]", "[8,11]"), "has 4 bytes");
  refused(TwoTensors("[0,8]", "[8,12]"), "data_offsets");
  refused(TwoTensors("[8,0]", "[8,11]"), "data_offsets");
  refused(TwoTensors("[0,8.0]", "[8,11]"), "data_offsets");
  refused(TwoTensors("[-1,8]", "[8,11]"), "data_offsets");
  refused(FileOf("{\"a\":{\"dtype\":\"F4\",\"shape\":[1],"
                 "\"data_offsets\":[0,1]}}",
                 "x"),
          "not known");
  // 2^62 elements of 8 bytes wrap to zero.
  refused(FileOf("{\"a\":{\"dtype\":\"F64\",\"shape\":[4611686018427387904],"
                 "\"data_offsets\":[0,0]}}",
                 ""),
          "has 0 bytes");
  refused(FileOf("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],"
                 "\"data_offsets\":[0,1],\"more\":0}}",
                 "x"),
          "exactly");
}

TEST(SafetensorsTest, ReadsShardsAndRefusesAnIndexThatDisagrees) {
  const std::string dir = TempPath("sharded");
  ASSERT_TRUE(MakeDirectories(dir).ok());
  const std::string byte = "x";
  ASSERT_TRUE(
      WriteSafetensors(dir + "/1.safetensors", {EntryOf("a", "U8", {1}, byte)})
          .ok());
  ASSERT_TRUE(
      WriteSafetensors(dir + "/2.safetensors", {EntryOf("b", "U8", {1}, byte)})
          .ok());
  const auto open = [&dir](const std::string& map) {
    EXPECT_TRUE(WriteFileDurably(dir + "/model.safetensors.index.json",
                                 "{\"weight_map\":" + map + "}")
                    .ok());
    return Safetensors::OpenModel(dir).status();
  };
  EXPECT_TRUE(open(R"({"a":"1.safetensors","b":"2.safetensors"})").ok());
  for (const char* map :
       {R"({"a":"2.safetensors","b":"1.safetensors"})",
        R"({"a":"1.safetensors","b":"2.safetensors","c":"1.safetensors"})",
        R"({"a":"1.safetensors"})", R"({"a":"../1.safetensors"})",
        R"({"a":"1.safetensors","b":"3.safetensors"})", "[]"}) {
    const absl::Status status = open(map);
    if (std::string(map) == R"({"a":"1.safetensors"})") {
      EXPECT_TRUE(status.ok()) << "a file that no tensor names is not ours";
    } else {
      EXPECT_FALSE(status.ok()) << map;
    }
  }
}

TEST(SafetensorsTest, DecodesBf16) {
  const std::string bytes("\x80\x3f\x81\xbf", 4);
  const auto values = DecodeFloats(EntryOf("a", "BF16", {2}, bytes));
  ASSERT_TRUE(values.ok()) << values.status();
  EXPECT_EQ((*values)[0], 1.0f);
  EXPECT_EQ((*values)[1], -1.0078125f);
  EXPECT_FALSE(DecodeFloats(EntryOf("a", "I32", {1}, bytes)).ok());
}

TEST(SafetensorsTest, RefusesToWriteWhatItCouldNotRead) {
  const std::string path = TempPath("unwritten.safetensors");
  const std::string bytes(4, 'x');
  for (const auto& entries :
       {std::vector<SafetensorsEntry>{EntryOf("a", "F32", {2}, bytes)},
        {EntryOf("a", "F32", {1}, bytes), EntryOf("a", "F32", {1}, bytes)},
        {EntryOf("a", "F31", {1}, bytes)}}) {
    EXPECT_FALSE(WriteSafetensors(path, entries).ok());
    EXPECT_FALSE(ReadFile(path, 1000).ok());
  }
}

}  // namespace
}  // namespace temper
