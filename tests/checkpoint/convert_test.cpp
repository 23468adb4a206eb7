#include "checkpoint/convert.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/expect_refused.h"
#include "checkpoint/output_files.h"
#include "checkpoint/scratch_directory.h"
#include "checkpoint/zip_maker.h"

namespace xcomposer {
namespace {

using testing_support::Bytes;
using testing_support::ExpectRefused;
using testing_support::GoodTorchZip;
using testing_support::MakeStateDict;
using testing_support::MakeZip;
using testing_support::ScratchDirectory;
using testing_support::TorchMembers;

std::string DenseText(const Checkpoint& checkpoint, const std::string& name) {
  std::string text;
  const TensorEntry* entry = checkpoint.Find(name);
  if (entry == nullptr) return "(no such tensor)";
  ForEachDenseChunk(*entry, checkpoint.Bytes(*entry), [&](std::span<const std::byte> piece) {
    text.append(reinterpret_cast<const char*>(piece.data()), piece.size());
  });
  return text;
}

TensorSource Source(const std::string& name, DType dtype, int64_t elements,
                    const std::string& bytes) {
  return {name, dtype, {elements}, [bytes](const ByteSink& sink) { sink(Bytes(bytes)); }};
}

void ExpectKind(ErrorKind kind, const std::function<void()>& action) {
  try {
    action();
    ADD_FAILURE() << "not refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
  }
}

TEST(Convert, WritesStridedAndSharedTensorsDensely) {
  const ScratchDirectory from;
  const ScratchDirectory to;
  from.Write(
      "pytorch_model.bin",
      MakeZip(TorchMembers(
          MakeStateDict({
              {.name = "all", .type = "CharStorage", .elements = 6, .shape = {6}, .strides = {1}},
              {.name = "tail",
               .type = "CharStorage",
               .elements = 6,
               .offset = 2,
               .shape = {4},
               .strides = {1}},
              {.name = "turned",
               .type = "CharStorage",
               .elements = 6,
               .shape = {3, 2},
               .strides = {1, 3}},
              {.name = "wide",
               .type = "BFloat16Storage",
               .key = "1",
               .elements = 3,
               .shape = {3},
               .strides = {1}},
          }),
          {"012345", "abcdef"})));
  for (const char* name :
       {"config.json", "tokenizer.model", "merges.txt", "tokenizer_config.json"}) {
    from.Write(name, std::string("content of ") + name);
  }
  for (const char* name :
       {"modeling.py", "pytorch_model.bin.index.json", "README.md", ".hidden.json"}) {
    from.Write(name, "not copied");
  }
  const Checkpoint source = Checkpoint::Open(from.path());
  int64_t last = 0;
  const ConversionReport report =
      ConvertCheckpoint(source, to.path(), {}, [&](const WriteProgress& progress) {
        EXPECT_GT(progress.bytes_done, last);
        EXPECT_EQ(progress.bytes_total, 22);
        last = progress.bytes_done;
      });
  EXPECT_EQ(last, 22);
  EXPECT_EQ(report.tensors, 4);
  EXPECT_EQ(report.bytes, 22);
  ASSERT_EQ(report.weights.size(), 1u);
  EXPECT_EQ(report.texts.size(), 4u);
  EXPECT_EQ(to.Read("tokenizer.model"), "content of tokenizer.model");
  EXPECT_FALSE(std::filesystem::exists(to.path() / "modeling.py"));
  EXPECT_FALSE(std::filesystem::exists(to.path() / "pytorch_model.bin.index.json"));

  const Checkpoint written = Checkpoint::Open(to.path());
  EXPECT_EQ(written.files()[0].format, WeightFormat::kSafetensors);
  EXPECT_EQ(DenseText(written, "all"), "012345");
  EXPECT_EQ(DenseText(written, "tail"), "2345");
  EXPECT_EQ(DenseText(written, "turned"), "031425");
  EXPECT_EQ(DenseText(written, "wide"), "abcdef");
  EXPECT_EQ(written.Find("wide")->dtype, DType::kBF16);
  EXPECT_EQ(written.Find("turned")->shape, (std::vector<int64_t>{3, 2}));
  EXPECT_EQ(written.metadata().at("format"), "pt");
  for (const TensorEntry& entry : written.entries()) EXPECT_TRUE(entry.IsAligned()) << entry.name;
}

TEST(Convert, GathersTensorsLargerThanOnePiece) {
  // 3 million elements of a transposed view: several pieces, the last one short.
  constexpr int64_t kRows = 3;
  constexpr int64_t kColumns = 1'000'001;
  std::string data(static_cast<size_t>(kRows * kColumns * 2), '\0');
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i * 7 % 251);
  const TensorEntry entry{.name = "t",
                          .dtype = DType::kI16,
                          .shape = {kColumns, kRows},
                          .strides = {1, kColumns},
                          .byte_length = static_cast<int64_t>(data.size())};
  std::string dense;
  int pieces = 0;
  ForEachDenseChunk(entry, Bytes(data), [&](std::span<const std::byte> piece) {
    dense.append(reinterpret_cast<const char*>(piece.data()), piece.size());
    ++pieces;
  });
  EXPECT_GT(pieces, 1);
  ASSERT_EQ(dense.size(), data.size());
  for (int64_t column = 0; column < kColumns; column += 997) {
    for (int64_t row = 0; row < kRows; ++row) {
      const auto at = static_cast<size_t>((column * kRows + row) * 2);
      const auto from = static_cast<size_t>((row * kColumns + column) * 2);
      ASSERT_EQ(dense.substr(at, 2), data.substr(from, 2)) << column << " " << row;
    }
  }
}

TEST(SafetensorsWriter, SplitsIntoShardsInTheGivenOrder) {
  const ScratchDirectory to;
  const std::vector<TensorSource> sources = {
      Source("b", DType::kU8, 3, "bbb"), Source("c", DType::kF32, 1, "cccc"),
      Source("a", DType::kI64, 2, std::string(16, 'a')), Source("d", DType::kU8, 1, "d")};
  const WriteReport report = WriteSafetensors(sources, to.path(), {.max_shard_bytes = 7});
  EXPECT_EQ(report.files.size(), 4u);
  EXPECT_EQ(report.files.back().filename(), "model.safetensors.index.json");
  const Checkpoint written = Checkpoint::Open(to.path());
  EXPECT_EQ(written.files().size(), 3u);
  EXPECT_EQ(written.files()[1].path.filename(), "model-00002-of-00003.safetensors");
  EXPECT_EQ(written.Find("b")->file, 0);
  EXPECT_EQ(written.Find("c")->file, 0);
  EXPECT_EQ(written.Find("a")->file, 1);
  EXPECT_EQ(written.Find("d")->file, 2);
  EXPECT_LT(written.Find("c")->offset, written.Find("b")->offset) << "wide types come first";
  EXPECT_EQ(DenseText(written, "c"), "cccc");
}

TEST(SafetensorsWriter, DataBeginsWithALineOfMemory) {
  for (size_t length = 1; length <= 64; ++length) {
    const ScratchDirectory to;
    const std::string name(length, 'n');
    WriteSafetensors({Source(name, DType::kU8, 3, "abc")}, to.path(), {});
    const Checkpoint written = Checkpoint::Open(to.path());
    const auto place = reinterpret_cast<uintptr_t>(written.Bytes(*written.Find(name)).data());
    EXPECT_EQ(place % 64, 0u) << "a name of " << length;  // files are mapped by pages
  }
}

TEST(SafetensorsWriter, RefusesATargetThatIsNotEmpty) {
  const ScratchDirectory to;
  to.Write("precious.txt", "x");
  const std::vector<TensorSource> sources = {Source("a", DType::kU8, 1, "a")};
  ExpectKind(ErrorKind::kUsage, [&] { WriteSafetensors(sources, to.path(), {}); });
  EXPECT_EQ(to.Read("precious.txt"), "x");
  to.Write("model-00001-of-00002.safetensors", "old");
  to.Write("model.safetensors.index.json", "old");
  WriteSafetensors(sources, to.path(), {.overwrite = true});
  EXPECT_EQ(to.Read("precious.txt"), "x");
  EXPECT_FALSE(std::filesystem::exists(to.path() / "model-00001-of-00002.safetensors"));
  EXPECT_FALSE(std::filesystem::exists(to.path() / "model.safetensors.index.json"));
  EXPECT_EQ(DenseText(Checkpoint::Open(to.path()), "a"), "a");
  const std::string file = (to.path() / "precious.txt").string();
  ExpectKind(ErrorKind::kUsage, [&] { WriteSafetensors(sources, file, {}); });
  std::filesystem::create_directory(to.path() / "model.safetensors.partial");
  ExpectKind(ErrorKind::kUsage, [&] { WriteSafetensors(sources, to.path(), {.overwrite = true}); });
}

TEST(SafetensorsWriter, LeavesNothingBehindOnErrors) {
  const ScratchDirectory to;
  to.Write("model.safetensors", "old");
  const auto write = [&](const TensorSource& source) {
    WriteSafetensors({Source("a", DType::kU8, 1, "a"), source}, to.path(),
                     {.max_shard_bytes = 1, .overwrite = true});
  };
  ExpectRefused([&] { write(Source("b", DType::kU8, 1, "")); }, "model-00002", "b", {"yields 0"});
  ExpectRefused([&] { write(Source("b", DType::kU8, 1, "bb")); }, "model-00002", "b",
                {"more than 1"});
  ExpectRefused([&] { write(Source("a", DType::kU8, 1, "a")); }, "", "a", {"twice"});
  ExpectRefused([&] { write(Source("__metadata__", DType::kU8, 1, "a")); }, "", "", {"reserved"});
  ExpectRefused([&] { write({"b", DType::kF32, {INT64_MAX}, {}}); }, "", "b", {"overflows"});
  ExpectKind(ErrorKind::kCapacity, [&] { write({"b", DType::kU8, {INT64_MAX / 2}, {}}); });
  EXPECT_EQ(to.Read("model.safetensors"), "old");
  int files = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(to.path())) ++files;
  EXPECT_EQ(files, 1);
}

int FilesIn(const std::filesystem::path& folder) {
  int files = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder)) ++files;
  return files;
}

TEST(SafetensorsWriter, AnErrorWhileNamesAreGivenLeavesTheOldWeights) {
  const std::vector<TensorSource> sources = {Source("a", DType::kU8, 1, "a"),
                                             Source("b", DType::kU8, 1, "b")};
  const ScratchDirectory to;
  to.Write("model.safetensors", "old");
  to.Write("note.json", "old");
  to.Write("quantize_config.json", "old");
  WriteOptions options{.max_shard_bytes = 1, .overwrite = true};
  options.texts = {{"note.json", "new"}};
  // A full folder where an old file is to wait, the last one, and one in place of a file.
  for (const char* name : {"note.json.replaced", "model.safetensors.index.json"}) {
    std::filesystem::create_directory(to.path() / name);
    to.Write(std::string(name) + "/full", "x");
    ExpectKind(ErrorKind::kUsage, [&] { WriteSafetensors(sources, to.path(), options); });
    EXPECT_EQ(to.Read("model.safetensors"), "old");
    EXPECT_EQ(to.Read("note.json"), "old");
    EXPECT_EQ(to.Read("quantize_config.json"), "old");
    EXPECT_EQ(to.Read(std::string(name) + "/full"), "x");
    EXPECT_EQ(FilesIn(to.path()), 4);
    std::filesystem::remove_all(to.path() / name);
  }
  WriteSafetensors(sources, to.path(), options);
  EXPECT_EQ(to.Read("note.json"), "new");
  EXPECT_EQ(DenseText(Checkpoint::Open(to.path()), "b"), "b");
  EXPECT_EQ(FilesIn(to.path()), 4);  // two shards, index, note: what said how old ones were
                                     // quantised is gone with them
}

TEST(SafetensorsWriter, TwoDoNotWriteIntoOneFolder) {
  const std::vector<TensorSource> sources = {Source("a", DType::kU8, 1, "a")};
  const ScratchDirectory to;
  WriteOptions options{.overwrite = true};
  int inner = 0;
  options.progress = [&](const WriteProgress&) {
    ++inner;
    ExpectKind(ErrorKind::kUsage,
               [&] { WriteSafetensors(sources, to.path(), {.overwrite = true}); });
  };
  WriteSafetensors(sources, to.path(), options);
  EXPECT_EQ(inner, 1);
  EXPECT_EQ(DenseText(Checkpoint::Open(to.path()), "a"), "a");
  WriteSafetensors(sources, to.path(), {.overwrite = true});  // the lock has gone with the writer
}

// What a folder holds is known only once nobody else writes into it.
TEST(SafetensorsWriter, AFolderIsLockedBeforeItIsLookedAt) {
  const ScratchDirectory to;
  to.Write("precious.txt", "x");
  const WriterLock other(to.path());
  try {
    WriteSafetensors({Source("a", DType::kU8, 1, "a")}, to.path(), {});
    ADD_FAILURE() << "not refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUsage);
    EXPECT_THAT(error.what(), testing::HasSubstr("another process is writing"));
  }
}

TEST(PrepareToWrite, FindsBeforeAnythingIsComputedWhatWouldBeFoundLater) {
  const ScratchDirectory to;
  PrepareToWrite(to.path() / "new", false, 1000);
  EXPECT_TRUE(std::filesystem::is_directory(to.path() / "new"));
  {
    const WriterLock other(to.path() / "new");
    ExpectKind(ErrorKind::kUsage, [&] { PrepareToWrite(to.path() / "new", true, 1000); });
  }
  to.Write("file", "x");
  ExpectKind(ErrorKind::kUsage, [&] { PrepareToWrite(to.path() / "file", true, 1000); });
  ExpectKind(ErrorKind::kUsage, [&] { PrepareToWrite(to.path(), false, 1000); });
  PrepareToWrite(to.path(), true, 1000);
  ExpectKind(ErrorKind::kCapacity,
             [&] { PrepareToWrite(to.path(), true, std::numeric_limits<int64_t>::max()); });
  if (geteuid() == 0) return;  // who may write anywhere
  std::filesystem::permissions(
      to.path() / "new", std::filesystem::perms::owner_read | std::filesystem::perms::owner_exec);
  ExpectKind(ErrorKind::kUsage, [&] { PrepareToWrite(to.path() / "new", false, 0); });
}

TEST(OutputFiles, GetTheirNamesTogetherOrNotAtAll) {
  const ScratchDirectory to;
  std::filesystem::create_directory(to.path() / "b");
  to.Write("b/full", "x");
  {
    OutputFiles files;
    for (const char* name : {"a", "b"}) {
      files.Begin(to.path() / name);
      files.Write(std::string_view("new"));
    }
    ExpectKind(ErrorKind::kUsage, [&] { files.Commit(); });
  }
  EXPECT_EQ(FilesIn(to.path()), 1);
}

TEST(Convert, FilesBesideTheWeightsAreBounded) {
  const ScratchDirectory from;
  from.Write("pytorch_model.bin", GoodTorchZip());
  for (const char* name : {"a.json", "b.json", "c.txt"}) from.Write(name, "1234");
  const Checkpoint checkpoint = Checkpoint::Open(from.path());
  EXPECT_EQ(ReadCompanions(checkpoint, {.file_bytes = 4, .total_bytes = 12}).size(), 3u);
  ExpectRefused([&] { ReadCompanions(checkpoint, {.file_bytes = 4, .total_bytes = 11}); },
                from.path().string() + "/", "", {"have 12 bytes", "at most 11"});
  ExpectRefused([&] { ReadCompanions(checkpoint, {.file_bytes = 3, .total_bytes = 12}); },
                from.path().string() + "/", "", {"at most 3"});
  std::filesystem::resize_file(from.path() / "b.json", (int64_t{64} << 20) + 1);
  ExpectRefused([&] { ReadCompanions(checkpoint); }, "b.json", "", {"at most 67108864"});
}

TEST(Convert, RefusesItsOwnDirectory) {
  const ScratchDirectory from;
  from.Write("pytorch_model.bin", GoodTorchZip());
  const Checkpoint source = Checkpoint::Open(from.path());
  ExpectKind(ErrorKind::kUsage,
             [&] { ConvertCheckpoint(source, from.path(), {.overwrite = true}); });
  EXPECT_FALSE(std::filesystem::exists(from.path() / "model.safetensors"));
}

TEST(Convert, ConvertsTheGoldensBitForBit) {
  const std::filesystem::path goldens =
      std::filesystem::path(XCOMPOSER_SHARED_DIR) / "data/goldens";
  if (!std::filesystem::is_directory(goldens)) GTEST_SKIP() << "no goldens at " << goldens;
  for (const char* folder : {"2-vl-7b-fullvocab/model", "2.5-7b-4bit/model"}) {
    const ScratchDirectory to;
    const Checkpoint source = Checkpoint::Open(goldens / folder);
    const ConversionReport report =
        ConvertCheckpoint(source, to.path(), {.max_shard_bytes = 3'000'000});
    EXPECT_GE(report.weights.size(), 3u);
    const Checkpoint written = Checkpoint::Open(to.path());
    ASSERT_EQ(written.entries().size(), source.entries().size());
    for (const TensorEntry& entry : source.entries()) {
      const TensorEntry* copy = written.Find(entry.name);
      ASSERT_NE(copy, nullptr) << entry.name;
      EXPECT_EQ(copy->dtype, entry.dtype);
      EXPECT_EQ(copy->shape, entry.shape);
      EXPECT_EQ(DenseText(written, entry.name), DenseText(source, entry.name)) << entry.name;
    }
  }
}

}  // namespace
}  // namespace xcomposer
