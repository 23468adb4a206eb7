#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/expect_refused.h"
#include "checkpoint/safetensors_maker.h"
#include "checkpoint/scratch_directory.h"
#include "checkpoint/zip_maker.h"

namespace xcomposer {
namespace {

using testing_support::ExpectRefused;
using testing_support::GoodSafetensors;
using testing_support::GoodTorchZip;
using testing_support::MakeSafetensors;
using testing_support::ScratchDirectory;

// A file with the one tensor `name`.
std::string Shard(const std::string& name) {
  return MakeSafetensors(R"({")" + name + R"(":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})",
                         name + "...");
}

std::string ChosenFile(const ScratchDirectory& directory) {
  const Checkpoint checkpoint = Checkpoint::Open(directory.path());
  return checkpoint.files().at(0).path.filename().string();
}

TEST(CheckpointOpen, SortsEntriesAndGivesTheirBytes) {
  const ScratchDirectory directory;
  directory.Write("model.safetensors", GoodSafetensors());
  const Checkpoint checkpoint = Checkpoint::Open(directory.path());
  ASSERT_EQ(checkpoint.entries().size(), 2u);
  EXPECT_EQ(checkpoint.entries()[0].name, "a");
  const auto bytes = checkpoint.Bytes(*checkpoint.Find("b"));
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()), "0123456789AB");
  EXPECT_EQ(checkpoint.Find("c"), nullptr);
  EXPECT_EQ(checkpoint.files()[0].size, static_cast<int64_t>(GoodSafetensors().size()));
  EXPECT_EQ(checkpoint.metadata().at("format"), "pt");
}

TEST(CheckpointOpen, ChoosesFilesAsHuggingFaceDoes) {
  const ScratchDirectory directory;
  const std::string index = R"({"weight_map":{"a":"s1.safetensors"}})";
  directory.Write("pytorch_model.bin.index.json", R"({"weight_map":{"a":"missing.bin"}})");
  ExpectRefused([&] { ChosenFile(directory); }, "pytorch_model.bin.index.json", "",
                {"missing.bin"});
  // As 2-vl-1.8b is published: one file beside an index whose shards do not exist.
  directory.Write("pytorch_model.bin", GoodTorchZip());
  EXPECT_EQ(ChosenFile(directory), "pytorch_model.bin");
  directory.Write("s1.safetensors", Shard("a"));
  EXPECT_EQ(ChosenFile(directory), "pytorch_model.bin");
  directory.Write("model.safetensors.index.json", index);
  EXPECT_EQ(ChosenFile(directory), "s1.safetensors");
  directory.Write("model.safetensors", GoodSafetensors());
  EXPECT_EQ(ChosenFile(directory), "model.safetensors");
}

TEST(CheckpointOpen, TakesASingleFileOfAnyName) {
  const ScratchDirectory directory;
  directory.Write("gptq_model-4bit-128g.safetensors", Shard("a"));
  directory.Write("README.md", "hello");
  EXPECT_EQ(ChosenFile(directory), "gptq_model-4bit-128g.safetensors");
  directory.Write("other.safetensors", Shard("a"));
  ExpectRefused([&] { ChosenFile(directory); }, directory.path().string(), "",
                {"several", "'gptq_model-4bit-128g.safetensors', 'other.safetensors'"});
  directory.Write("x.safetensors.index.json", R"({"weight_map":{"a":"other.safetensors"}})");
  EXPECT_EQ(ChosenFile(directory), "other.safetensors");
}

TEST(CheckpointOpen, RefusesDirectoriesWithoutWeights) {
  const ScratchDirectory directory;
  const std::string path = directory.path().string();
  ExpectRefused([&] { Checkpoint::Open(path); }, path, "", {"no weights here", "found nothing"});
  directory.Write("config.json", "{}");
  ExpectRefused([&] { Checkpoint::Open(path); }, path, "", {"found 'config.json'"});
  ExpectRefused([&] { Checkpoint::Open(path + "/config.json"); }, path, "", {"not a directory"});
  ExpectRefused([&] { Checkpoint::Open(path + "/nowhere"); }, path, "", {"no such directory"});
}

TEST(CheckpointOpen, ReadsShardsAndNamesTheirFiles) {
  const ScratchDirectory directory;
  directory.Write("s1.safetensors", Shard("a"));
  directory.Write("s2.safetensors", Shard("b"));
  directory.Write("model.safetensors.index.json",
                  R"({"metadata":{"total_size":8},)"
                  R"("weight_map":{"a":"s1.safetensors","b":"s2.safetensors"}})");
  const Checkpoint checkpoint = Checkpoint::Open(directory.path());
  EXPECT_EQ(checkpoint.files().size(), 2u);
  EXPECT_EQ(checkpoint.Find("b")->file, 1);
  EXPECT_EQ(checkpoint.Mapping(*checkpoint.Find("b"))->path().filename(), "s2.safetensors");
  const auto bytes = checkpoint.Bytes(*checkpoint.Find("b"));
  EXPECT_EQ(static_cast<char>(bytes[0]), 'b');
  EXPECT_TRUE(checkpoint.notes().empty());

  directory.Write("model.safetensors.index.json",
                  R"({"metadata":{"total_size":9},)"
                  R"("weight_map":{"a":"s1.safetensors","b":"s2.safetensors"}})");
  const Checkpoint miscounted = Checkpoint::Open(directory.path());
  EXPECT_EQ(miscounted.entries().size(), 2u);
  ASSERT_EQ(miscounted.notes().size(), 1u);
  EXPECT_NE(miscounted.notes()[0].find("total_size of the index is 9"), std::string::npos);

  directory.Write("s2.safetensors", Shard("c"));
  ExpectRefused([&] { Checkpoint::Open(directory.path()); }, "index.json", "c",
                {"'c' is in 's2.safetensors', but not in the index", "'b' is not in"});
  directory.Write("s2.safetensors", Shard("b") + "x");
  ExpectRefused([&] { Checkpoint::Open(directory.path()); }, "s2.safetensors", "", {"must end"});
  std::filesystem::remove(directory.path() / "s2.safetensors");
  ExpectRefused([&] { Checkpoint::Open(directory.path()); }, "index.json", "",
                {"not there: 's2.safetensors'"});
  directory.Write("model.safetensors.index.json", R"({"weight_map":{"a":"s1.bin"}})");
  ExpectRefused([&] { Checkpoint::Open(directory.path()); }, "index.json", "",
                {"'s1.bin'", "format"});
}

TEST(CheckpointOpen, FollowsLinksOfTheFilesThemselves) {
  // The cache of Hugging Face: snapshots hold links to blobs.
  const ScratchDirectory directory;
  const auto snapshot = directory.path() / "snapshot";
  std::filesystem::create_directory(snapshot);
  std::filesystem::create_symlink(directory.Write("blob", Shard("a")),
                                  snapshot / "model.safetensors");
  EXPECT_EQ(Checkpoint::Open(snapshot).entries().size(), 1u);
  std::filesystem::remove(directory.path() / "blob");
  ExpectRefused([&] { Checkpoint::Open(snapshot); }, "snapshot", "", {"no weights here"});
}

TEST(CheckpointOpen, RefusesWhatIsNoWeightFile) {
  const ScratchDirectory directory;
  const auto open = [&] { Checkpoint::Open(directory.path()); };
  directory.Write("pytorch_model.bin", "");
  ExpectRefused(open, "pytorch_model.bin", "", {"empty"});
  directory.Write("pytorch_model.bin",
                  "version https://git-lfs.github.com/spec/v1\noid sha256:0\n");
  ExpectRefused(open, "pytorch_model.bin", "", {"git lfs pull"});
  directory.Write("pytorch_model.bin", GoodSafetensors());
  ExpectRefused(open, "pytorch_model.bin", "", {"\"PK\""});
  directory.Write("model.safetensors", GoodTorchZip());
  ExpectRefused(open, "model.safetensors", "", {"Is this a safetensors file?"});
  std::filesystem::remove(directory.path() / "model.safetensors");
  std::filesystem::create_directory(directory.path() / "model.safetensors");
  ExpectRefused(open, "model.safetensors", "", {"not a regular file"});
  std::filesystem::remove(directory.path() / "model.safetensors");
  ASSERT_EQ(mkfifo((directory.path() / "model.safetensors").c_str(), 0600), 0);
  ExpectRefused(open, "model.safetensors", "", {"not a regular file"});
}

TEST(CheckpointOpen, EscapesHostileNamesInMessages) {
  const ScratchDirectory directory;
  directory.Write("\x1b[31mred.safetensors", MakeSafetensors("{", ""));
  try {
    Checkpoint::Open(directory.path());
    FAIL() << "not refused";
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()).find('\x1b'), std::string::npos);
    EXPECT_EQ(error.where().at("file").find('\x1b'), std::string::npos);
  }
}

}  // namespace
}  // namespace xcomposer
