#pragma once

#include <gtest/gtest.h>

#include <string>

namespace xcomposer::testing {

inline const std::string kDemo = XCOMPOSER_SOURCE_DIR "/demo/checkpoint";
inline const std::string kPicture = XCOMPOSER_SOURCE_DIR "/demo/pictures/fashion-00000.png";

/// The project's own checkpoint, which needs a tokenizer and pictures.
class DemoModel : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!XCOMPOSER_HAVE_TEXT || !XCOMPOSER_HAVE_PICTURES) {
      GTEST_SKIP() << "this build has no tokenizer or no picture decoder";
    }
  }
};

}  // namespace xcomposer::testing
