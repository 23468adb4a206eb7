#include "token_counts.h"

#include <algorithm>
#include <charconv>

#include "xcomposer/error.h"

namespace xcomposer::cli {
namespace {

constexpr int64_t kMost = int64_t{1} << 20;

int64_t ParseCount(const std::string& option, const std::string& text) {
  int64_t count = 0;
  const char* end = text.data() + text.size();
  const auto [stopped, failure] = std::from_chars(text.data(), end, count);
  if (failure != std::errc() || stopped != end || count < 1 || count > kMost) {
    throw Error(ErrorKind::kUsage, option + ": found '" + text + "', expected numbers from 1 to " +
                                       std::to_string(kMost) + " with commas between, or none");
  }
  return count;
}

}  // namespace

std::vector<int64_t> ParseTokenCounts(const std::string& option, const std::string& text) {
  if (text == "none") return {};
  std::vector<int64_t> counts;
  size_t begin = 0;
  while (begin <= text.size()) {
    const size_t comma = std::min(text.find(',', begin), text.size());
    counts.push_back(ParseCount(option, text.substr(begin, comma - begin)));
    begin = comma + 1;
  }
  return counts;
}

}  // namespace xcomposer::cli
