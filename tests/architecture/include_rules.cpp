#include "architecture/include_rules.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <regex>

namespace xcomposer::architecture {
namespace {

namespace fs = std::filesystem;

const std::string kPublic = "public";

// Header prefixes of each third-party library.
const std::vector<std::pair<std::string, std::string>>& Prefixes() {
  static const std::vector<std::pair<std::string, std::string>> prefixes = {
      {"nlohmann/", "nlohmann"},
      {"spdlog/", "spdlog"},
      {"CLI/", "CLI11"},
      // Macros with the version number only, unlike all else of LibTorch.
      {"torch/version.h", "Torch's version"},
      {"ATen/", "Torch"},
      {"torch/", "Torch"},
      {"c10/", "Torch"},
      {"opencv2/", "OpenCV"},
      {"sentencepiece", "sentencepiece"},
      {"gif_lib.h", "giflib"},
      {"jpeglib.h", "libjpeg"},
      {"jerror.h", "libjpeg"},
      {"png.h", "libpng"},
      {"tiffio.h", "libtiff"},
      {"ft2build.h", "FreeType"},
      {"freetype/", "FreeType"},
      {"zmq", "ZeroMQ"},
      {"sodium", "libsodium"},
      {"cuda", "CUDA"},
      {"cublas", "CUDA"},
      {"nccl", "NCCL"},
      {"support/emulator/", "the CUDA emulator"},
      {"gtest/", "GoogleTest"},
      {"gmock/", "GoogleTest"}};
  return prefixes;
}

bool IsSystemHeader(const std::string& header) {
  static const std::set<std::string> known = {
      "arpa/inet.h", "netdb.h",  "netinet/in.h", "poll.h",   "cpuid.h",  "dlfcn.h",   "errno.h",
      "fcntl.h",     "float.h",  "immintrin.h",  "limits.h", "math.h",   "pthread.h", "sched.h",
      "signal.h",    "stdint.h", "stdio.h",      "stdlib.h", "string.h", "time.h",    "unistd.h"};
  const bool is_standard = header.find_first_of("./") == std::string::npos;
  return is_standard || known.count(header) > 0 || header.rfind("sys/", 0) == 0;
}

std::string RoomOfHeader(const std::string& header) {
  const std::string first = header.substr(0, header.find('/'));
  if (first == "xcomposer") return kPublic;
  return first;
}

bool IsSource(const fs::path& path) {
  static const std::set<std::string> extensions = {".h", ".cpp", ".cu", ".cuh", ".inc", ".hpp"};
  return extensions.count(path.extension().string()) > 0;
}

void Collect(const fs::path& folder, const std::string& room, std::vector<SourceFile>& files) {
  if (!fs::exists(folder)) return;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file() || !IsSource(entry.path())) continue;
    std::ifstream in(entry.path(), std::ios::binary);
    const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    files.push_back({room, entry.path(), IncludesOf(text)});
  }
}

}  // namespace

const std::map<std::string, RoomRules>& Rooms() {
  static const std::map<std::string, RoomRules> rooms = {
      {kPublic, {{}, {}}},
      {"base", {{}, {"spdlog"}}},
      {"batch", {{}, {}}},
      {"config", {{"base"}, {"nlohmann"}}},
      // The emulator stands in for CUDA where kernels are compiled as C++, in their tests only.
      {"kernels", {{}, {"CUDA", "the CUDA emulator"}}},
      {"checkpoint", {{"base"}, {"nlohmann"}}},
      {"placement", {{"base", "config"}, {"nlohmann"}}},
      {"measure", {{"base", "config", "kernels", "placement"}, {}}},
      {"transport", {{"base"}, {"ZeroMQ", "libsodium", "NCCL", "CUDA", "Torch"}}},
      {"workers", {{"base", "batch", "transport"}, {}}},
      {"input",
       {{"base", "config", "batch"},
        {"nlohmann", "sentencepiece", "OpenCV", "giflib", "libjpeg", "libpng", "libtiff",
         "FreeType"}}},
      {"engine", {{"base", "config", "batch"}, {}}},
      {"ops", {{"base", "kernels"}, {"Torch"}}},
      {"model", {{"base", "config", "batch", "ops"}, {"Torch"}}},
      {"pipeline",
       // The kernels' thread pool is the pipeline's to make and to hand down; ops quantises weights
       // while they are loaded.
       {{"base", "config", "batch", "kernels", "ops", "model", "checkpoint", "placement",
         "transport", "workers"},
        {"Torch"}}},
      {"api",
       {{"base", "batch", "config", "checkpoint", "placement", "measure", "transport", "workers",
         "input", "engine", "pipeline", "kernels"},
        {"nlohmann", "Torch's version"}}},
  };
  return rooms;
}

std::optional<std::string> LibraryOf(const std::string& header) {
  for (const auto& [prefix, library] : Prefixes()) {
    if (header.rfind(prefix, 0) == 0) return library;
  }
  if (IsSystemHeader(header)) return "";
  return std::nullopt;
}

std::vector<std::string> IncludesOf(const std::string& source) {
  static const std::regex kInclude("(?:^|\n)[ \t]*#[ \t]*include[ \t]*[<\"]([^>\"\n]+)[>\"]");
  std::vector<std::string> headers;
  for (std::sregex_iterator it(source.begin(), source.end(), kInclude), end; it != end; ++it) {
    headers.push_back((*it)[1]);
  }
  return headers;
}

std::string Violation(const std::string& room, const std::string& header) {
  const RoomRules& rules = Rooms().at(room);
  const std::string target = RoomOfHeader(header);
  if (header.find('/') != std::string::npos && Rooms().count(target) > 0) {
    if (target == room || rules.rooms.count(target) > 0) return "";
    // Only the kernels know nothing of the library's own types.
    if (target == kPublic && room != "kernels") return "";
    return "the room '" + room + "' may not include the room '" + target + "' (" + header + ")";
  }
  const std::optional<std::string> library = LibraryOf(header);
  if (!library) return "'" + header + "' is no header that the rules know";
  if (library->empty() || rules.libraries.count(*library) > 0) return "";
  return "the room '" + room + "' may not include " + *library + " (" + header + ")";
}

std::vector<SourceFile> ReadProject(const fs::path& project) {
  std::vector<SourceFile> files;
  Collect(project / "include", kPublic, files);
  Collect(project / "kernels", "kernels", files);
  for (const fs::directory_entry& room : fs::directory_iterator(project / "src")) {
    if (room.is_directory()) Collect(room.path(), room.path().filename().string(), files);
  }
  return files;
}

}  // namespace xcomposer::architecture
