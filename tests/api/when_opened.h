#pragma once

#include <functional>
#include <string>

namespace xcomposer::testing_support {

/// Calls `then` once, on the thread that is about to open the file `path`.
void WhenOpened(const std::string& path, std::function<void()> then);

}  // namespace xcomposer::testing_support
