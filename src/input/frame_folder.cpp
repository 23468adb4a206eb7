#include <algorithm>
#include <charconv>
#include <filesystem>
#include <iterator>
#include <string_view>
#include <utility>

#include "base/check.h"
#include "base/small_file.h"
#include "input/video.h"

namespace xcomposer {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxRateBytes = 64;

// Frames per second.
double ReadRate(const fs::path& file) {
  std::string text = ReadSmallFile(file, kMaxRateBytes, ErrorKind::kImage);
  const auto is_space = [](char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; };
  while (!text.empty() && is_space(text.back())) text.pop_back();
  const size_t start = text.find_first_not_of(" \t\r\n");
  const std::string_view number =
      start == std::string::npos ? "" : std::string_view(text).substr(start);
  double rate = 0;
  const auto [end, code] = std::from_chars(number.data(), number.data() + number.size(), rate);
  Require(code == std::errc() && end == number.data() + number.size(), ErrorKind::kImage, "'",
          file.string(), "' should hold one number (frames per second), found '", text, "'");
  return rate;
}

}  // namespace

FrameFiles ReadFrameFolder(const std::string& folder) {
  std::error_code code;
  std::vector<std::pair<uint64_t, std::string>> numbered;
  for (fs::directory_iterator at(folder, code), end; !code && at != end; at.increment(code)) {
    const std::string stem = at->path().stem().string();
    uint64_t number = 0;
    const auto [last, parsed] = std::from_chars(stem.data(), stem.data() + stem.size(), number);
    const bool is_number = parsed == std::errc() && last == stem.data() + stem.size();
    if (is_number) numbered.emplace_back(number, at->path().string());
  }
  Require(!code, ErrorKind::kImage, "the video folder '", folder,
          "' cannot be read: ", code.message());
  Require(!numbered.empty(), ErrorKind::kImage, "the video folder '", folder,
          "' has no frames; expected pictures named by number, such as 000.png");
  std::sort(numbered.begin(), numbered.end());
  FrameFiles video;
  video.fps = ReadRate(fs::path(folder) / "fps.txt");
  for (auto& [number, file] : numbered) video.files.push_back(std::move(file));
  return video;
}

}  // namespace xcomposer
