#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <initializer_list>
#include <string>

#include "xcomposer/error.h"

namespace xcomposer::testing_support {

/// Calls `action`, which must throw kCheckpoint; the message must hold every one of `words`, and
/// where() must name `file` (and `tensor`, where it is not empty).
template <typename Action>
void ExpectRefused(const Action& action, const std::string& file, const std::string& tensor,
                   std::initializer_list<const char*> words) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kCheckpoint) << error.what();
    const std::string message = error.what();
    EXPECT_THAT(message, testing::HasSubstr(file));
    EXPECT_EQ(error.where().count("file"), 1u) << message;
    if (error.where().count("file") != 0) {
      EXPECT_THAT(error.where().at("file"), testing::HasSubstr(file));
    }
    if (!tensor.empty()) {
      EXPECT_THAT(message, testing::HasSubstr(tensor));
      EXPECT_EQ(error.where().count("tensor"), 1u) << message;
    }
    for (const char* word : words) EXPECT_THAT(message, testing::HasSubstr(word));
    return;
  }
  ADD_FAILURE() << "not refused; expected an error with "
                << (words.size() == 0 ? "any words" : *words.begin());
}

}  // namespace xcomposer::testing_support
