#include "checkpoint/torch_zip.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "checkpoint/dense_copy.h"
#include "checkpoint/expect_refused.h"
#include "checkpoint/scratch_directory.h"
#include "checkpoint/zip_maker.h"

namespace xcomposer {
namespace {

using testing_support::Bytes;
using testing_support::ExpectRefused;
using testing_support::GoodTorchZip;
using testing_support::MakeStateDict;
using testing_support::MakeZip;
using testing_support::PickledView;
using testing_support::TorchMembers;
using testing_support::ZipMemberSpec;

constexpr const char* kFile = "some/pytorch_model.bin";

std::vector<TensorEntry> Read(const std::string& file) { return ReadTorchZip(Bytes(file), kFile); }

void Refused(const std::string& file, const std::string& tensor,
             std::initializer_list<const char*> words) {
  ExpectRefused([&] { Read(file); }, kFile, tensor, words);
}

// An archive of the one tensor `view` and one storage of `bytes` bytes.
std::string One(const PickledView& view, size_t bytes) {
  return MakeZip(TorchMembers(MakeStateDict({view}), {std::string(bytes, 's')}));
}

std::string Dense(const TensorEntry& entry, std::string_view file) {
  std::string dense;
  const std::string_view bytes =
      file.substr(static_cast<size_t>(entry.offset), static_cast<size_t>(entry.byte_length));
  ForEachDenseChunk(entry, Bytes(bytes), [&](std::span<const std::byte> piece) {
    dense.append(reinterpret_cast<const char*>(piece.data()), piece.size());
  });
  return dense;
}

TEST(TorchZip, LocatesTensors) {
  const std::string file = GoodTorchZip();
  const std::vector<TensorEntry> entries = Read(file);
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[0].name, "a");
  EXPECT_EQ(Dense(entries[0], file), "abcdefgh");
  EXPECT_TRUE(entries[0].IsContiguous());
  EXPECT_FALSE(entries[1].IsContiguous());
  EXPECT_EQ(entries[1].byte_length, 24);
}

TEST(TorchZip, ViewsOfOneStorageMayOverlapAndStride) {
  const std::string file = MakeZip(TorchMembers(
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
          {.name = "column",
           .type = "CharStorage",
           .elements = 6,
           .offset = 1,
           .shape = {3, 1},
           .strides = {2, 9}},
          {.name = "none",
           .type = "CharStorage",
           .elements = 6,
           .offset = 6,
           .shape = {0, 5},
           .strides = {5, 1}},
          {.name = "pairs",
           .type = "HalfStorage",
           .elements = 3,
           .offset = 1,
           .shape = {2},
           .strides = {1}},
          {.name = "one", .type = "CharStorage", .elements = 6, .offset = 5},
      }),
      {"012345"}));
  std::vector<std::string> dense;
  for (const TensorEntry& entry : Read(file)) dense.push_back(Dense(entry, file));
  EXPECT_EQ(dense, (std::vector<std::string>{"012345", "2345", "031425", "135", "", "2345", "5"}));
}

TEST(TorchZip, StridesOfOneElementMayBeAnything) {
  const int64_t most = INT64_MAX;
  const std::string file = MakeZip(TorchMembers(MakeStateDict({{.name = "w",
                                                                .type = "CharStorage",
                                                                .elements = 6,
                                                                .shape = {1, 3, 1, 2},
                                                                .strides = {most, 1, most, 3}}}),
                                                {"012345"}));
  const std::vector<TensorEntry> entries = Read(file);
  EXPECT_EQ(entries.at(0).strides, (std::vector<int64_t>{6, 1, 2, 3}));
  EXPECT_EQ(Dense(entries[0], file), "031425");
}

TEST(TorchZip, RefusesViewsThatLeaveTheirStorage) {
  const int64_t most = INT64_MAX;
  const auto refused = [](const PickledView& view) {
    Refused(One(view, 24), "w", {"leaves its storage of 6 elements"});
  };
  refused({.name = "w", .elements = 6, .shape = {7}, .strides = {1}});
  refused({.name = "w", .elements = 6, .offset = 5, .shape = {2}, .strides = {1}});
  refused({.name = "w", .elements = 6, .offset = 6});
  refused({.name = "w", .elements = 6, .offset = 7, .shape = {0}, .strides = {1}});
  refused({.name = "w", .elements = 6, .offset = most, .shape = {1}, .strides = {1}});
  refused({.name = "w", .elements = 6, .shape = {2}, .strides = {most}});
  refused({.name = "w", .elements = 6, .shape = {3, 3}, .strides = {most / 2 + 1, most / 2 + 1}});
  refused({.name = "w", .elements = 6, .shape = {most, most}, .strides = {0, 0}});
  refused({.name = "w", .elements = 6, .shape = {most, most, 0}, .strides = {1, 1, 1}});
  refused({.name = "w", .elements = 6, .shape = {most}, .strides = {1}});
  // A bomb: six elements that would be copied a million times.
  Refused(One({.name = "w", .elements = 6, .shape = {1000000, 6}, .strides = {0, 1}}, 24), "w",
          {"repeats"});
}

TEST(TorchZip, RefusesStoragesThatAreNotAsTold) {
  const PickledView view{.name = "w", .elements = 6, .shape = {6}, .strides = {1}};
  Refused(One(view, 23), "w", {"has 23 bytes"});
  Refused(One(view, 25), "w", {"has 25 bytes"});
  PickledView wide = view;
  wide.elements = INT64_MAX;
  Refused(One(wide, 24), "w", {"has 24 bytes"});
  PickledView other = view;
  other.key = "1";
  Refused(One(other, 24), "w", {"data/1 is missing"});
}

TEST(TorchZip, RefusesOtherArchives) {
  const std::string pickle = MakeStateDict({});
  std::vector<ZipMemberSpec> members = TorchMembers(pickle, {});
  EXPECT_TRUE(Read(MakeZip(members)).empty());
  members[1].data = "big";
  Refused(MakeZip(members), "", {"byte order", "'big'"});
  members[1].data = std::string(1000, 'x');
  Refused(MakeZip(members), "", {"byte order"});
  members[1] = {.name = "m/constants.pkl", .data = ""};
  Refused(MakeZip(members), "", {"TorchScript"});
  Refused(MakeZip({{.name = "m/data/0", .data = "x"}}), "", {"m/data.pkl"});
  Refused("\x80\x02\x8a\x0al\xfc\x9c", "", {"before PyTorch 1.6", "torch.save"});
  Refused("hello", "", {"\"PK\""});
  Refused("", "", {"\"PK\""});
}

TEST(TorchZip, RefusesEveryTruncationAndSurvivesEveryFlippedByte) {
  const std::string good = GoodTorchZip();
  for (size_t size = 0; size < good.size(); ++size) {
    SCOPED_TRACE(size);
    Refused(good.substr(0, size), "", {});
  }
  for (size_t at = 0; at < good.size(); ++at) {
    for (const int flip : {0x01, 0x04, 0x20, 0x80, 0xff}) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ flip);
      try {
        for (const TensorEntry& entry : Read(bad)) Dense(entry, bad);
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::kCheckpoint) << error.what();
      }
    }
  }
}

}  // namespace
}  // namespace xcomposer
