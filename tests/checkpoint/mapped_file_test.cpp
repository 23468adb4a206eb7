#include "checkpoint/mapped_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "scratch_directory.h"
#include "support/memory_flags.h"
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

constexpr int64_t kMany = int64_t{12} << 20;

std::string Numbers(int64_t count) {
  std::string text(static_cast<size_t>(count), ' ');
  for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i % 251);
  return text;
}

/// A file whose pages are small in the system's cache: it was written in little parts.
std::filesystem::path WriteInParts(const testing_support::ScratchDirectory& folder) {
  const std::string text = Numbers(kMany);
  const auto path = folder.Write("numbers", "");
  std::ofstream file(path, std::ios::binary);
  for (int64_t at = 0; at < kMany; at += 16384) {
    file.write(text.data() + at, 16384);
    file.flush();
  }
  return path;
}

/// Pages of [first, first + length) that this process would wait for; nothing where the system does
/// not show them.
std::optional<int64_t> AbsentPages(const std::byte* first, int64_t length) {
  const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(first) / page;
  const auto end = (reinterpret_cast<uintptr_t>(first + length) + page - 1) / page;
  std::vector<uint64_t> entries(end - begin);
  const auto bytes = static_cast<ssize_t>(entries.size() * sizeof(uint64_t));
  const int map = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  const ssize_t got = pread(map, entries.data(), static_cast<size_t>(bytes),
                            static_cast<off_t>(begin * sizeof(uint64_t)));
  close(map);
  if (got != bytes) return std::nullopt;
  return std::ranges::count_if(entries, [](uint64_t entry) { return entry >> 63 == 0; });
}

TEST(MappedFile, WhatWasFetchedIsNotWaitedFor) {
  const testing_support::ScratchDirectory folder;
  const auto file = MappedFile::Open(WriteInParts(folder));
  const std::byte* first = file->bytes().data();
  const auto all = AbsentPages(first, kMany);
  if (!all) GTEST_SKIP() << "the system does not show which pages are there";
  ASSERT_GT(*all, 0);
  // Odd ends, and the last, half a page.
  for (const auto& [offset, length] : {std::pair<int64_t, int64_t>{5000, 3 << 20},
                                       {(3 << 20) + 5000, (4 << 20) + 1},
                                       {kMany - 2048, 2048}}) {
    file->Fetch(offset, length);
    EXPECT_EQ(AbsentPages(first + offset, length), 0) << offset;
  }
  file->Fetch(17, 0);
  EXPECT_GT(AbsentPages(first, kMany), 0);  // others wait for their readers
}

TEST(MappedFile, LargePagesAreAskedForWherePartsAreFetched) {
  const testing_support::ScratchDirectory folder;
  const auto file = MappedFile::Open(folder.Write("numbers", Numbers(kMany)));
  const std::byte* first = file->bytes().data();
  if (testing_support::FlagsAt(first).empty()) GTEST_SKIP() << "no flags of memory are shown";
  if (!std::filesystem::exists("/sys/kernel/mm/transparent_hugepage")) {
    GTEST_SKIP() << "the system has no large pages";
  }
  file->Fetch((4 << 20) + 100, 1 << 20);
  const auto is_large = [first](int64_t at) {
    return testing_support::FlagsAt(first + at).find(" hg ") != std::string::npos;
  };
  // The whole page that it lies in, and no other.
  EXPECT_TRUE(is_large(4 << 20));
  EXPECT_TRUE(is_large((6 << 20) - 1));
  EXPECT_FALSE(is_large((4 << 20) - 1));
  EXPECT_FALSE(is_large(6 << 20));
}

TEST(MappedFile, FetchingOutsideIsADefectOfTheCaller) {
  const testing_support::ScratchDirectory folder;
  const auto file = MappedFile::Open(folder.Write("numbers", "0123456789"));
  for (const auto& [offset, length] :
       {std::pair<int64_t, int64_t>{-1, 1}, {0, 11}, {10, 1}, {0, -1}, {11, 0}, {1, INT64_MAX}}) {
    EXPECT_THROW(file->Fetch(offset, length), Error) << offset;
  }
}

TEST(MappedFile, FetchingFromAFileThatWasCutMeanwhileIsTold) {
  const testing_support::ScratchDirectory folder;
  const auto path = folder.Write("numbers", Numbers(kMany));
  const auto file = MappedFile::Open(path);
  constexpr int kPopulateRead = 22;
  if (madvise(const_cast<std::byte*>(file->bytes().data()), 4096, kPopulateRead) != 0) {
    GTEST_SKIP() << "the system answers with SIGBUS";
  }
  std::filesystem::resize_file(path, kMany / 2);
  file->Fetch(0, kMany / 2);
  try {
    file->Fetch(1 << 20, kMany - (1 << 20));
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kCheckpoint);
    EXPECT_EQ(error.where().at("file"), path.string());
    EXPECT_EQ(error.where().at("offset"),
              std::to_string(kMany - (2 << 20)));  // the last large page
  }
}

}  // namespace
}  // namespace xcomposer
