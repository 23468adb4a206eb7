#include "checkpoint/shard_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "checkpoint/expect_refused.h"

namespace xcomposer {
namespace {

using testing_support::ExpectRefused;

constexpr const char* kFile = "some/model.safetensors.index.json";

ShardIndex Parse(const std::string& text, const CheckpointLimits& limits = {}) {
  return ParseShardIndex(text, kFile, limits);
}

void Refused(const std::string& text, const std::string& tensor,
             std::initializer_list<const char*> words) {
  SCOPED_TRACE(text.substr(0, 200));
  ExpectRefused([&] { Parse(text); }, kFile, tensor, words);
}

TensorEntry Entry(const std::string& name, int64_t file, int64_t offset) {
  return {.name = name,
          .dtype = DType::kU8,
          .shape = {4},
          .strides = {1},
          .file = file,
          .offset = offset,
          .byte_length = 4};
}

const std::vector<std::string> kShards = {"s1", "s2"};

TEST(ShardIndex, ReadsTheMapAndTheSize) {
  const ShardIndex index = Parse(
      R"({"metadata":{"total_size":12,"x":[{"total_size":"no"}]},"extra":[1,{"weight_map":3}],)"
      R"("weight_map":{"a":"s2","b":"s1","c":"s2"}})");
  EXPECT_EQ(index.total_size, 12);
  EXPECT_EQ(index.weight_map.at("a"), "s2");
  EXPECT_EQ(index.Shards(), kShards);
  EXPECT_EQ(Parse(R"({"weight_map":{"a":"s"}})").total_size, std::nullopt);
  EXPECT_EQ(Parse(R"({"metadata":{"total_size":1.2e1},"weight_map":{"a":"s"}})").total_size, 12);
}

// Hugging Face does not look at the size.
TEST(ShardIndex, PassesOverASizeThatIsNone) {
  for (const char* size : {"\"12\"", "-1.5", "1e300", "null", "18446744073709551615"}) {
    SCOPED_TRACE(size);
    const ShardIndex index =
        Parse(R"({"metadata":{"total_size":)" + std::string(size) + R"(},"weight_map":{"a":"s"}})");
    EXPECT_EQ(index.total_size, std::nullopt);
    EXPECT_EQ(index.weight_map.size(), 1u);
  }
}

TEST(ShardIndex, RefusesOtherForms) {
  Refused("", "", {"JSON"});
  Refused("{", "", {"JSON"});
  Refused("[]", "", {"no \"weight_map\""});
  Refused("{}", "", {"no \"weight_map\""});
  Refused(R"([{"weight_map":{"a":"s"}}])", "", {"weight_map"});
  Refused(R"({"weight_map":{}})", "", {"names no tensor"});
  Refused(R"({"weight_map":[]})", "", {"must map"});
  Refused(R"({"weight_map":[{"a":"s"}]})", "", {"must map"});
  Refused(R"({"weight_map":"s"})", "", {"must map"});
  Refused(R"({"weight_map":{"a":{}}})", "a", {"must map"});
  Refused(R"({"weight_map":{"a":["s"]}})", "a", {"must map"});
  Refused(R"({"weight_map":{"a":1}})", "a", {"not a text"});
  Refused(R"({"weight_map":{"":"s"}})", "", {"empty name"});
  Refused(R"({"metadata":)" + std::string(100'000, '['), "", {"deeper than"});
}

TEST(ShardIndex, RefusesATensorThatIsMappedTwice) {
  Refused(R"({"weight_map":{"a":"s1","a":"s2"}})", "", {"'a'", "twice"});
  Refused(R"({"weight_map":{"a":"s1"},"weight_map":{"b":"s2"}})", "", {"'weight_map'", "twice"});
}

TEST(ShardIndex, RefusesShardsOutsideTheDirectory) {
  for (const char* shard : {"../x.bin", "/etc/passwd", "a/b.bin", "..", ".", "", "a\\\\b", "c:x",
                            "a\\u0000b", "a\\nb", "./x.bin"}) {
    Refused(R"({"weight_map":{"w":")" + std::string(shard) + R"("}})", "w",
            {"not a plain file name"});
  }
  Refused(R"({"weight_map":{"w":")" + std::string(300, 'a') + R"("}})", "w", {"plain file name"});
}

TEST(ShardIndex, RefusesMoreThanTheLimits) {
  CheckpointLimits limits;
  limits.max_files = 1;
  const std::string two = R"({"weight_map":{"a":"s1","b":"s2"}})";
  ExpectRefused([&] { Parse(two, limits); }, kFile, "", {"more than 1 files"});
  limits.max_files = 2;
  EXPECT_EQ(Parse(two, limits).weight_map.size(), 2u);
  limits.max_tensors = 1;
  ExpectRefused([&] { Parse(two, limits); }, kFile, "", {"more than 1 tensors"});
  limits.max_index_bytes = 5;
  ExpectRefused([&] { Parse(two, limits); }, kFile, "", {"at most 5"});
}

// A hundred megabytes of keys take gigabytes.
TEST(ShardIndex, CountsKeysThatNobodyReads) {
  CheckpointLimits limits;
  limits.max_tensors = 10;
  const std::string map = R"("weight_map":{"a":"s"}})";
  std::string apart = "{";
  for (int i = 0; i < 15; ++i) {
    apart += StrCat("\"x", i, "\":{\"a\":1,\"b\":2,\"c\":3},");
  }
  EXPECT_EQ(Parse(apart + map, limits).weight_map.size(), 1u);
  std::string wide = R"({"metadata":{"x":0)";
  for (int i = 0; i < 36; ++i) wide += StrCat(",\"k", i, "\":0");
  ExpectRefused([&] { Parse(wide + "}," + map, limits); }, kFile, "", {"more than 36 keys"});
}

TEST(ShardIndex, AgreesWithItsShards) {
  const ShardIndex index =
      Parse(R"({"metadata":{"total_size":8},"weight_map":{"a":"s1","b":"s2"}})");
  EXPECT_NO_THROW(RequireIndexed(index, kShards, {Entry("a", 0, 0), Entry("b", 1, 0)}, kFile));
}

TEST(ShardIndex, ListsEveryDisagreementInOneError) {
  const ShardIndex index = Parse(R"({"weight_map":{"a":"s1","b":"s2","c":"s1","d":"s1"}})");
  const std::vector<TensorEntry> tensors = {Entry("a", 0, 0), Entry("b", 0, 4), Entry("d", 0, 8),
                                            Entry("d", 1, 0), Entry("e", 1, 4)};
  ExpectRefused([&] { RequireIndexed(index, kShards, tensors, kFile); }, kFile, "b",
                {"(4)", "'b' is in 's1', but the index says 's2'", "'c' is not in 's1'",
                 "'d' is in 's1' and in 's2'", "'e' is in 's2', but not in the index"});
}

TEST(ShardIndex, ComparesTheTotalSize) {
  const auto index = [](int size) {
    return Parse(
        StrCat(R"({"metadata":{"total_size":)", size, R"(},"weight_map":{"a":"s1","b":"s1"}})"));
  };
  // Two views that share two bytes: both ways to count are in use.
  const std::vector<TensorEntry> shared = {Entry("a", 0, 0), Entry("b", 0, 2)};
  EXPECT_EQ(TotalSizeNote(index(8), shared), std::nullopt);
  EXPECT_EQ(TotalSizeNote(index(6), shared), std::nullopt);
  EXPECT_NO_THROW(RequireIndexed(index(7), {"s1"}, shared, kFile));
  EXPECT_THAT(TotalSizeNote(index(7), shared).value_or(""),
              testing::AllOf(testing::HasSubstr("total_size of the index is 7"),
                             testing::HasSubstr("6 bytes")));
  // The second file starts to count anew.
  const ShardIndex two =
      Parse(R"({"metadata":{"total_size":10},"weight_map":{"a":"s1","b":"s1","c":"s2"}})");
  const std::vector<TensorEntry> spread = {Entry("a", 0, 0), Entry("b", 0, 2), Entry("c", 1, 0)};
  EXPECT_EQ(TotalSizeNote(two, spread), std::nullopt);
  EXPECT_EQ(TotalSizeNote(Parse(R"({"weight_map":{"a":"s1"}})"), spread), std::nullopt);
}

}  // namespace
}  // namespace xcomposer
