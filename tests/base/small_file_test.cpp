// Files that are read at once: whatever lies at the path, the reader answers at once.
#include "base/small_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "checkpoint/scratch_directory.h"

namespace xcomposer {
namespace {

using testing::HasSubstr;

class SmallFile : public testing::Test {
 protected:
  void ExpectRefused(const std::string& name, const std::string& why) const {
    const std::filesystem::path file = scratch_.path() / name;
    try {
      ReadSmallFile(file, 10, ErrorKind::kTokenizer);
      ADD_FAILURE() << name << " was read";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kTokenizer);
      EXPECT_THAT(error.what(), HasSubstr(why));
      EXPECT_EQ(error.where().at("file"), file.string());
    }
  }

  testing_support::ScratchDirectory scratch_;
};

TEST_F(SmallFile, GivesTheWholeContent) {
  const std::string content("a\0b\r\n", 5);
  EXPECT_EQ(ReadSmallFile(scratch_.Write("five", content), 5, ErrorKind::kConfig), content);
  EXPECT_EQ(ReadSmallFile(scratch_.Write("none", ""), 0, ErrorKind::kConfig), "");
}

TEST_F(SmallFile, RefusesWhatIsMissingOrTooLarge) {
  ExpectRefused("missing", "No such file");
  scratch_.Write("eleven", "12345678901");
  ExpectRefused("eleven", "11 bytes; at most 10");
}

// Without a writer, the plain way to open a pipe would wait for ever.
TEST_F(SmallFile, RefusesWhatIsNoFileWithoutWaiting) {
  ASSERT_EQ(mkfifo((scratch_.path() / "pipe").c_str(), 0600), 0);
  ExpectRefused("pipe", "not a regular file");
  std::filesystem::create_symlink("/dev/zero", scratch_.path() / "endless");
  ExpectRefused("endless", "not a regular file");
  std::filesystem::create_directory(scratch_.path() / "folder");
  ExpectRefused("folder", "not a regular file");
  std::filesystem::create_symlink("loop", scratch_.path() / "loop");
  ExpectRefused("loop", "cannot read");
}

}  // namespace
}  // namespace xcomposer
