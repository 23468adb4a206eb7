// Dependencies between rooms point down only. These tests read every include of the project.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iterator>

#include "architecture/include_rules.h"

namespace xcomposer::architecture {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;

const std::vector<SourceFile>& Project() {
  static const std::vector<SourceFile> files = ReadProject(XCOMPOSER_SOURCE_DIR);
  return files;
}

std::vector<std::string> FilesThatInclude(const std::string& library) {
  std::vector<std::string> names;
  for (const SourceFile& file : Project()) {
    for (const std::string& header : file.includes) {
      if (LibraryOf(header) == library) {
        names.push_back(file.room + "/" + file.path.filename().string());
        break;
      }
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

TEST(Architecture, EveryIncludeIsAllowed) {
  ASSERT_GT(Project().size(), 20u);
  for (const SourceFile& file : Project()) {
    for (const std::string& header : file.includes) {
      EXPECT_THAT(Violation(file.room, header), IsEmpty()) << file.path;
    }
  }
}

TEST(Architecture, EveryFolderOfSrcIsARoomOfTheTable) {
  for (const SourceFile& file : Project()) EXPECT_EQ(Rooms().count(file.room), 1u) << file.room;
}

TEST(Architecture, TheTableHasNoCircle) {
  // Removing rooms that need nothing of what is left must empty the table.
  std::map<std::string, RoomRules> left = Rooms();
  for (bool progress = true; progress && !left.empty();) {
    progress = false;
    for (auto it = left.begin(); it != left.end();) {
      const std::set<std::string>& needs = it->second.rooms;
      const bool free = std::none_of(needs.begin(), needs.end(), [&left](const std::string& need) {
        return left.count(need) > 0;
      });
      it = free ? left.erase(it) : std::next(it);
      progress = progress || free;
    }
  }
  EXPECT_TRUE(left.empty()) << left.begin()->first;
}

// src/CMakeLists.txt tells the reader the same table.
TEST(Architecture, TheTableIsTheOneThatTheBuildFileTells) {
  std::ifstream in(std::string(XCOMPOSER_SOURCE_DIR) + "/src/CMakeLists.txt");
  const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  for (const auto& [room, rules] : Rooms()) {
    if (room == "public" || room == "kernels" || room == "api") continue;
    const size_t at = text.find("\n#   " + room + " ");
    ASSERT_NE(at, std::string::npos) << room;
    const std::string line = text.substr(at + 1, text.find('\n', at + 1) - at - 1);
    for (const std::string& need : rules.rooms) {
      EXPECT_NE(line.find(" " + need), std::string::npos) << room << " needs " << need;
    }
  }
}

TEST(Architecture, PublicHeadersIncludeOnlyTheStandardLibraryAndEachOther) {
  for (const SourceFile& file : Project()) {
    if (file.room != "public") continue;
    for (const std::string& header : file.includes) {
      const bool ours = header.rfind("xcomposer/", 0) == 0;
      const bool standard = header.find_first_of("./") == std::string::npos;
      EXPECT_TRUE(ours || standard) << file.path << " includes " << header;
    }
  }
}

TEST(Architecture, LibrariesWithOneDoorAreBehindIt) {
  EXPECT_THAT(FilesThatInclude("spdlog"), ElementsAre("base/log.cpp"));
  EXPECT_LE(FilesThatInclude("sentencepiece").size(), 1u);
  EXPECT_LE(FilesThatInclude("OpenCV").size(), 1u);
}

TEST(Architecture, NobodyIncludesAllOfTorch) {
  for (const SourceFile& file : Project()) {
    for (const std::string& header : file.includes) {
      EXPECT_NE(header, "torch/torch.h") << file.path;
      EXPECT_NE(header, "torch/all.h") << file.path;
      EXPECT_NE(header, "ATen/ATen.h") << file.path;
    }
  }
}

// A checker that has never found anything is not known to work.
TEST(Architecture, PlantedFaultsAreFound) {
  EXPECT_THAT(Violation("model", "input/tokenizer.h"), Not(IsEmpty()));
  EXPECT_THAT(Violation("engine", "pipeline/pipeline.h"), Not(IsEmpty()));
  EXPECT_THAT(Violation("base", "config/model_config.h"), Not(IsEmpty()));
  EXPECT_THAT(Violation("kernels", "ATen/core/Tensor.h"), Not(IsEmpty()));
  EXPECT_THAT(Violation("kernels", "xcomposer/error.h"), Not(IsEmpty()));
  EXPECT_THAT(Violation("public", "nlohmann/json.hpp"), Not(IsEmpty()));
  EXPECT_THAT(Violation("public", "base/check.h"), Not(IsEmpty()));
  EXPECT_THAT(Violation("engine", "some_other_library.h"), Not(IsEmpty()));
  EXPECT_THAT(Violation("model", "cuda_runtime.h"), Not(IsEmpty()));
}

TEST(Architecture, IncludesAreReadInEverySpelling) {
  const std::string source =
      "#include <vector>\n  #  include \"input/a.h\"  // why\n// #include "
      "<ATen/ATen.h>\n#include<map>\n";
  EXPECT_THAT(IncludesOf(source), ElementsAre("vector", "input/a.h", "map"));
}

}  // namespace
}  // namespace xcomposer::architecture
