#include "checkpoint/mapped_file.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "scratch_directory.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

std::string ReadText(const MappedFile& file, int64_t offset, size_t count) {
  std::vector<std::byte> bytes(count);
  file.Read(offset, bytes);
  return {reinterpret_cast<const char*>(bytes.data()), count};
}

TEST(MappedFile, ReadsAnyPartWithoutTheMapping) {
  const testing_support::ScratchDirectory folder;
  const auto file = MappedFile::Open(folder.Write("numbers", "0123456789"));
  EXPECT_EQ(ReadText(*file, 0, 10), "0123456789");
  EXPECT_EQ(ReadText(*file, 7, 3), "789");
  EXPECT_EQ(ReadText(*file, 4, 1), "4");
  EXPECT_EQ(ReadText(*file, 10, 0), "");
}

TEST(MappedFile, PartsOutsideAreADefectOfTheCaller) {
  const testing_support::ScratchDirectory folder;
  const auto file = MappedFile::Open(folder.Write("numbers", "0123456789"));
  for (const auto& [offset, count] :
       {std::pair<int64_t, size_t>{-1, 1}, {0, 11}, {10, 1}, {11, 0}, {INT64_MAX, 1}}) {
    try {
      ReadText(*file, offset, count);
      ADD_FAILURE() << offset;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kInternal) << offset;
    }
  }
}

TEST(MappedFile, AFileThatWasCutMeanwhileIsTold) {
  const testing_support::ScratchDirectory folder;
  const auto path = folder.Write("numbers", "0123456789");
  const auto file = MappedFile::Open(path);
  std::filesystem::resize_file(path, 6);
  EXPECT_EQ(ReadText(*file, 2, 4), "2345");
  try {
    ReadText(*file, 2, 5);
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kCheckpoint);
    EXPECT_EQ(error.where().at("file"), path.string());
    EXPECT_EQ(error.where().at("offset"), "6");
  }
}

}  // namespace
}  // namespace xcomposer
