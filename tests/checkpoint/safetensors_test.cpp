#include "checkpoint/safetensors.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "checkpoint/expect_refused.h"
#include "checkpoint/safetensors_maker.h"
#include "checkpoint/scratch_directory.h"

namespace xcomposer {
namespace {

using testing_support::Bytes;
using testing_support::ExpectRefused;
using testing_support::GoodSafetensors;
using testing_support::LittleEndian;
using testing_support::MakeSafetensors;

constexpr const char* kFile = "some/model.safetensors";

SafetensorsHeader Parse(const std::string& file, const CheckpointLimits& limits = {}) {
  return ParseSafetensors(Bytes(file), kFile, limits);
}

// Refused with `words`, naming `tensor`.
void Refused(const std::string& header, const std::string& data, const std::string& tensor,
             std::initializer_list<const char*> words) {
  SCOPED_TRACE(header.substr(0, 200));
  ExpectRefused([&] { Parse(MakeSafetensors(header, data)); }, kFile, tensor, words);
}

TEST(Safetensors, ReadsEntriesAndMetadata) {
  const std::string file = GoodSafetensors();
  const SafetensorsHeader header = Parse(file);
  ASSERT_EQ(header.tensors.size(), 2u);
  const TensorEntry& a = header.tensors[0];
  const TensorEntry& b = header.tensors[1];
  EXPECT_EQ(a.name, "a");
  EXPECT_EQ(b.shape, (std::vector<int64_t>{1, 3}));
  EXPECT_EQ(b.strides, (std::vector<int64_t>{3, 1}));
  EXPECT_EQ(b.dtype, DType::kF32);
  EXPECT_EQ(file.substr(static_cast<size_t>(a.offset), 8), "abcdefgh");
  EXPECT_EQ(file.substr(static_cast<size_t>(b.offset), 12), "0123456789AB");
  EXPECT_EQ(header.metadata.at("format"), "pt");
}

TEST(Safetensors, KnowsEveryType) {
  const std::vector<std::pair<std::string, int>> types = {
      {"F64", 8}, {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"I64", 8},
      {"I32", 4}, {"I16", 2}, {"I8", 1},  {"U8", 1},   {"BOOL", 1}};
  for (const auto& [type, size] : types) {
    const std::string header = R"({"t":{"dtype":")" + type + R"(","shape":[3],"data_offsets":[0,)" +
                               std::to_string(3 * size) + "]}}";
    const SafetensorsHeader parsed =
        Parse(MakeSafetensors(header, std::string(static_cast<size_t>(3 * size), 'x')));
    EXPECT_EQ(ToString(parsed.tensors.at(0).dtype), type);
    EXPECT_EQ(SizeOf(parsed.tensors.at(0).dtype), size);
  }
}

TEST(Safetensors, AcceptsScalarsEmptyTensorsAndNoTensors) {
  EXPECT_TRUE(Parse(MakeSafetensors("{}", "")).tensors.empty());
  const SafetensorsHeader header =
      Parse(MakeSafetensors(R"({"s":{"dtype":"U8","shape":[],"data_offsets":[0,1]},)"
                            R"("e":{"dtype":"F32","shape":[0,7],"data_offsets":[1,1]}})",
                            "x"));
  EXPECT_EQ(header.tensors.size(), 2u);
  EXPECT_EQ(header.tensors[0].NumElements(), 1);
  EXPECT_EQ(header.tensors[1].NumElements(), 0);
}

TEST(Safetensors, RefusesEveryTruncationAndEveryAppendix) {
  const std::string good = GoodSafetensors();
  for (size_t size = 0; size < good.size(); ++size) {
    SCOPED_TRACE(size);
    ExpectRefused([&] { Parse(good.substr(0, size)); }, kFile, "", {});
  }
  ExpectRefused([&] { Parse(good + "x"); }, kFile, "", {"must end with its last tensor"});
}

TEST(Safetensors, SurvivesEveryFlippedByte) {
  const std::string good = GoodSafetensors();
  for (size_t at = 0; at < good.size(); ++at) {
    for (const int flip : {0x01, 0x20, 0x80, 0xff}) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ flip);
      try {
        Parse(bad);
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::kCheckpoint) << error.what();
      }
    }
  }
}

TEST(Safetensors, RefusesLyingLengthPrefixes) {
  for (const uint64_t length : {uint64_t{100'000'001}, uint64_t{1} << 63, ~uint64_t{0}}) {
    ExpectRefused([&] { Parse(LittleEndian(length, 8) + "{}"); }, kFile, "", {"at most 100000000"});
  }
  ExpectRefused([&] { Parse(LittleEndian(3, 8) + "{}"); }, kFile, "", {"truncated"});
  ExpectRefused([&] { Parse(LittleEndian(0, 8) + "{}"); }, kFile, "", {"'{'"});
  CheckpointLimits small;
  small.max_header_bytes = 10;
  ExpectRefused([&] { Parse(GoodSafetensors(), small); }, kFile, "", {"at most 10"});
}

TEST(Safetensors, RefusesHeadersThatAreNoObject) {
  Refused(" {}", "", "", {"'{'"});
  Refused("[]", "", "", {"'{'"});
  Refused("\xef\xbb\xbf{}", "", "", {"'{'"});
  Refused("{", "", "", {"not valid JSON"});
  Refused("{}{}", "", "", {"not valid JSON"});
  Refused("{/**/}", "", "", {"not valid JSON"});
  Refused(R"({"a":NaN})", "", "", {"not valid JSON"});
  Refused("{\"\xff\":{}}", "", "", {"not valid JSON"});
  Refused(std::string("{}\0garbage", 10), "", "", {"NUL"});
}

TEST(Safetensors, RefusesValuesOfAnotherForm) {
  Refused(R"({"w":5})", "", "w", {"unexpected value"});
  Refused(R"({"w":[]})", "", "w", {"unexpected value"});
  Refused(R"({"w":{"dtype":{}}})", "", "w", {"unexpected value"});
  Refused(R"({"w":{"dtype":7}})", "", "w", {"unexpected value"});
  Refused(R"({"w":{"shape":[[1]]}})", "", "w", {"unexpected value"});
  Refused(R"({"w":{"shape":[{}]}})", "", "w", {"unexpected value"});
  Refused(R"({"w":{"shape":3}})", "", "w", {"unexpected value"});
  Refused(R"({"w":{"strides":[1]}})", "", "w", {"unexpected value"});
  Refused(R"({"__metadata__":{"a":1}})", "", "", {"unexpected value"});
  Refused(R"({"__metadata__":{"a":{}}})", "", "", {"unexpected value"});
  Refused(R"({"__metadata__":[]})", "", "", {"unexpected value"});
  Refused(R"({"w":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}})", "x", "w", {"F8_E4M3"});
  Refused(R"({"w":{"dtype":"F32","shape":[1]}})", "xxxx", "w", {"lacks data_offsets"});
  Refused(R"({"w":{"shape":[1],"data_offsets":[0,4]}})", "xxxx", "w", {"lacks dtype"});
  Refused(R"({"w":{"dtype":"F32","data_offsets":[0,4]}})", "xxxx", "w", {"lacks shape"});
  Refused(R"({"":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "x", "", {"empty name"});
  Refused(R"({"a\u0007b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "x", "", {"\\x07"});
}

TEST(Safetensors, RefusesNumbersThatAreNoSizes) {
  for (const char* number : {"-1", "1.0", "1e3", "9223372036854775808", "\"1\"", "null", "true"}) {
    const std::string shape =
        R"({"w":{"dtype":"U8","shape":[)" + std::string(number) + R"(],"data_offsets":[0,1]}})";
    Refused(shape, "x", "w", {"not an integer"});
    const std::string offsets =
        R"({"w":{"dtype":"U8","shape":[1],"data_offsets":[0,)" + std::string(number) + "]}}";
    Refused(offsets, "x", "w", {"not an integer"});
  }
  Refused(R"({"w":{"dtype":"U8","shape":[1e999],"data_offsets":[0,1]}})", "x", "", {"JSON"});
}

TEST(Safetensors, RefusesSizesThatOverflow) {
  const std::string big = "4611686018427387904";  // 2^62
  Refused(R"({"w":{"dtype":"U8","shape":[)" + big + "," + big + R"(],"data_offsets":[0,0]}})", "",
          "w", {"overflows"});
  Refused(R"({"w":{"dtype":"U8","shape":[)" + big + "," + big + R"(,0],"data_offsets":[0,0]}})", "",
          "w", {"overflows"});
  Refused(R"({"w":{"dtype":"F32","shape":[)" + big + R"(],"data_offsets":[0,0]}})", "", "w",
          {"overflows"});
  Refused(R"({"w":{"dtype":"U8","shape":[9223372036854775807],)"
          R"("data_offsets":[0,9223372036854775807]}})",
          "", "w", {"truncated"});
}

TEST(Safetensors, RefusesOffsetsThatDoNotTileTheData) {
  const auto two = [](const char* a, const char* b) {
    return std::string(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)") + a +
           R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)" + b + "}}";
  };
  Refused(two("[0,4]", "[2,6]"), "123456", "b", {"overlap"});
  Refused(two("[0,4]", "[0,4]"), "1234", "b", {"overlap"});
  Refused(two("[0,4]", "[5,9]"), "123456789", "b", {"hole"});
  Refused(two("[1,5]", "[5,9]"), "123456789", "a", {"hole"});
  Refused(two("[0,4]", "[4,9]"), "123456789", "b", {"takes 4 bytes", "span 5"});
  Refused(two("[4,0]", "[4,8]"), "12345678", "a", {"begin <= end"});
  Refused(two("[0]", "[4,8]"), "12345678", "a", {"begin, end"});
  Refused(two("[0,4,8]", "[4,8]"), "12345678", "a", {"more than 2"});
  Refused(two("[0,4]", "[4,8]"), "1234567", "b", {"truncated"});
  Refused(two("[0,4]", "[4,8]"), "123456789", "", {"must end"});
}

TEST(Safetensors, RefusesDuplicateKeys) {
  const std::string w = R"("w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]})";
  Refused("{" + w + "," + w + "}", "x", "", {"'w'", "twice"});
  Refused(R"({"\u0077":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)" + w + "}", "x", "",
          {"'w'", "twice"});
  Refused(R"({"w":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}})", "x", "",
          {"'dtype'", "twice"});
  Refused(R"({"__metadata__":{"a":"1","a":"2"}})", "", "", {"'a'", "twice"});
  Refused(R"({"__metadata__":{},"__metadata__":{}})", "", "", {"twice"});
}

TEST(Safetensors, RefusesDeepAndWideHeaders) {
  const std::string deep(1'000'000, '[');
  Refused(R"({"w":)" + deep + "}", "", "", {});
  std::string nested;
  for (int i = 0; i < 100'000; ++i) nested += R"({"w":)";
  Refused(nested, "", "", {});
  std::string rank = R"({"w":{"dtype":"U8","shape":[1)";
  for (int i = 0; i < 100'000; ++i) rank += ",1";
  Refused(rank + R"(],"data_offsets":[0,1]}})", "x", "w", {"more than 16"});
  CheckpointLimits few;
  few.max_tensors = 1;
  ExpectRefused([&] { Parse(GoodSafetensors(), few); }, kFile, "", {"more than 1 tensors"});
  Refused("{\"" + std::string(5000, 'n') + R"(":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
          "x", "", {"5000 bytes"});
}

TEST(Safetensors, EntriesOfMetadataAreCounted) {
  CheckpointLimits few;
  few.max_tensors = 2;
  EXPECT_EQ(Parse(MakeSafetensors(R"({"__metadata__":{"a":"","b":""}})", ""), few).metadata.size(),
            2u);
  const std::string three = MakeSafetensors(R"({"__metadata__":{"a":"","b":"","c":""}})", "");
  ExpectRefused([&] { Parse(three, few); }, kFile, "", {"more than 2 entries in __metadata__"});
}

TEST(Safetensors, HundredThousandTensorsAreRead) {
  std::string header = "{";
  constexpr int kCount = 100'000;
  for (int i = 0; i < kCount; ++i) {
    header += StrCat(i == 0 ? "" : ",", "\"t", i, "\":{\"dtype\":\"U8\",\"shape\":[1],",
                     "\"data_offsets\":[", i, ",", i + 1, "]}");
  }
  const std::string file = MakeSafetensors(header + "}", std::string(kCount, 'x'));
  EXPECT_EQ(Parse(file).tensors.size(), static_cast<size_t>(kCount));
}

}  // namespace
}  // namespace xcomposer
