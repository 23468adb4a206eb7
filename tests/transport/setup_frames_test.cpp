#include "transport/setup_frames.h"

#include <gtest/gtest.h>

#include "transport/in_process.h"

namespace xcomposer {
namespace {

constexpr ExpectedSetup kName = {SetupKind::kGpu, 8, "its name"};

TimePoint In(std::chrono::milliseconds time) { return std::chrono::steady_clock::now() + time; }

/// What rank 0 is told of what rank 1 sent.
Error Refused(SetupKind kind, const std::string& bytes) {
  const auto ranks = MakeInProcessTransports(2);
  SendSetup(*ranks[1], 0, kind, Payload::Of(bytes));
  try {
    ReceiveSetup(*ranks[0], 1, kName, In(std::chrono::seconds(20)));
  } catch (const Error& error) {
    EXPECT_STREQ(ranks[1]->failure().value().what(), error.what());
    return error;
  }
  ADD_FAILURE() << "nothing was thrown";
  return Error(ErrorKind::kInternal, "");
}

TEST(SetupFrames, WhatIsExpectedArrives) {
  const auto ranks = MakeInProcessTransports(2);
  for (const std::string& text : {std::string(), std::string("12345678")}) {
    SendSetup(*ranks[1], 0, SetupKind::kGpu, Payload::Of(text));
    const Payload sent = ReceiveSetup(*ranks[0], 1, kName, In(std::chrono::seconds(20)));
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(sent.data), static_cast<size_t>(sent.size)),
              text);
  }
  EXPECT_FALSE(ranks[0]->failure().has_value());
}

TEST(SetupFrames, AnotherKindOrTooManyBytesEndTheRun) {
  for (const Error& error :
       {Refused(SetupKind::kUniqueId, "1"), Refused(SetupKind::kGpu, "123456789")}) {
    EXPECT_EQ(error.kind(), ErrorKind::kTransport);
    EXPECT_EQ(error.where().at("rank"), "1");
    EXPECT_NE(std::string(error.what()).find("its name"), std::string::npos) << error.what();
  }
}

TEST(SetupFrames, SilenceIsADeadline) {
  const auto ranks = MakeInProcessTransports(2);
  try {
    ReceiveSetup(*ranks[0], 1, kName, In(std::chrono::milliseconds(20)));
    ADD_FAILURE() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kDeadline);
    EXPECT_NE(std::string(error.what()).find("its name"), std::string::npos) << error.what();
  }
  EXPECT_TRUE(ranks[1]->failure().has_value());
}

}  // namespace
}  // namespace xcomposer
