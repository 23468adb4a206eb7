#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace xcomposer::architecture {

/// What the files of one room may include, beside the standard library and their own room.
struct RoomRules {
  std::set<std::string> rooms;
  std::set<std::string> libraries;  ///< names of kLibraries
};

/// The rooms of src/CMakeLists.txt, the kernels and the public headers.
const std::map<std::string, RoomRules>& Rooms();

/// Which third-party library a header belongs to; empty for the standard library and the system.
/// Nothing where the header is not known at all.
std::optional<std::string> LibraryOf(const std::string& header);

/// The headers that the text of a source file includes.
std::vector<std::string> IncludesOf(const std::string& source);

/// What is wrong with one include of a file of `room`; empty where nothing is.
std::string Violation(const std::string& room, const std::string& header);

struct SourceFile {
  std::string room;
  std::filesystem::path path;
  std::vector<std::string> includes;
};

/// All sources and headers below src/, kernels/ and include/ of the project.
std::vector<SourceFile> ReadProject(const std::filesystem::path& project);

}  // namespace xcomposer::architecture
