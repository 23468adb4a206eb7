// The log's level, which belongs to the process.
#include "base/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "xcomposer/log.h"

namespace xcomposer {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::string Written() {
  testing::internal::CaptureStderr();
  log::Debug("a detail");
  log::Info("some news");
  log::Warn("a warning");
  return testing::internal::GetCapturedStderr();
}

class LogLevel : public testing::Test {
 protected:
  ~LogLevel() override { SetLogLevel("warn"); }
};

TEST_F(LogLevel, IsWarnUnlessSet) {
  EXPECT_THAT(Written(), AllOf(HasSubstr("a warning"), Not(HasSubstr("some news"))));
}

TEST_F(LogLevel, SaysWhatIsWritten) {
  SetLogLevel("info");
  EXPECT_THAT(Written(),
              AllOf(HasSubstr("a warning"), HasSubstr("some news"), Not(HasSubstr("a detail"))));
  for (const char* more : {"debug", "trace"}) {
    SetLogLevel(more);
    EXPECT_THAT(Written(), HasSubstr("a detail"));
  }
  for (const char* less : {"error", "off"}) {
    SetLogLevel(less);
    EXPECT_EQ(Written(), "");
  }
}

TEST_F(LogLevel, AnotherNameIsRefusedAndChangesNothing) {
  SetLogLevel("off");
  for (const std::string name : {"", "Warn", "verbose"}) {
    try {
      SetLogLevel(name);
      ADD_FAILURE() << "'" << name << "' was taken";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUsage);
      EXPECT_THAT(error.what(), HasSubstr("'" + name + "'"));
    }
  }
  EXPECT_EQ(Written(), "");
}

}  // namespace
}  // namespace xcomposer
