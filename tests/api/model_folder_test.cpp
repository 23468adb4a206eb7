#include "api/model_folder.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "api/demo_model.h"
#include "base/check.h"
#include "checkpoint/scratch_directory.h"

namespace xcomposer::api {
namespace {

namespace fs = std::filesystem;
using testing_support::ExpectError;

class HubCache : public ::testing::Test {
 protected:
  void SetUp() override { setenv("HF_HUB_CACHE", scratch_.path().c_str(), 1); }
  void TearDown() override { unsetenv("HF_HUB_CACHE"); }

  fs::path Snapshot(const std::string& repository, const std::string& revision) {
    const fs::path folder = scratch_.path() / repository / "snapshots" / revision;
    fs::create_directories(folder);
    return folder;
  }

  testing_support::ScratchDirectory scratch_;
};

TEST_F(HubCache, AFolderIsItself) { EXPECT_EQ(FindModelFolder(scratch_.path()), scratch_.path()); }

TEST_F(HubCache, ARepositoryIdIsItsMainSnapshot) {
  const fs::path wanted = Snapshot("models--org--name", "abc123");
  Snapshot("models--org--name", "older");
  fs::create_directories(scratch_.path() / "models--org--name" / "refs");
  scratch_.Write("models--org--name/refs/main", "abc123\n");
  EXPECT_EQ(FindModelFolder("org/name"), wanted);
}

TEST_F(HubCache, ALoneSnapshotNeedsNoRef) {
  EXPECT_EQ(FindModelFolder("org/lone"), Snapshot("models--org--lone", "only"));
}

TEST_F(HubCache, OfSeveralSnapshotsWithoutARefOneMustBeNamed) {
  const fs::path folder = Snapshot("models--org--many", "rev2").parent_path();
  Snapshot("models--org--many", "rev1");
  ExpectError(ErrorKind::kCheckpoint, folder.string() + " (rev1, rev2) and refs/main names none",
              [] { FindModelFolder("org/many"); });
  ExpectError(ErrorKind::kCheckpoint, "(--model)", [] { FindModelFolder("org/many"); });
  for (int i = 3; i < 12; ++i) Snapshot("models--org--many", StrCat("rev", i));
  ExpectError(ErrorKind::kCheckpoint, " and 3 more)", [] { FindModelFolder("org/many"); });
}

TEST_F(HubCache, ARefCannotLeaveTheSnapshots) {
  Snapshot("models--org--evil", "one");
  Snapshot("models--org--evil", "two");
  fs::create_directories(scratch_.path() / "models--org--evil" / "refs");
  scratch_.Write("models--org--evil/refs/main", "../../..");
  ExpectError(ErrorKind::kCheckpoint, "org/evil", [] { FindModelFolder("org/evil"); });
}

TEST_F(HubCache, WhatIsMissingIsNamedWithThePlace) {
  ExpectError(ErrorKind::kCheckpoint, "models--org--missing",
              [] { FindModelFolder("org/missing"); });
  ExpectError(ErrorKind::kCheckpoint, "../etc", [] { FindModelFolder("../etc"); });
  ExpectError(ErrorKind::kUsage, "no model", [] { FindModelFolder(""); });
  const auto file = scratch_.Write("file", "");
  ExpectError(ErrorKind::kCheckpoint, "not a folder", [&] { FindModelFolder(file); });
}

}  // namespace
}  // namespace xcomposer::api
