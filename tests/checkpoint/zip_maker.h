#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/little_endian.h"
#include "checkpoint/pickle_maker.h"

namespace xcomposer::testing_support {

/// A member of a ZIP archive; optional fields replace what an honest archive would say.
struct ZipMemberSpec {
  std::string name;
  std::string data;
  uint16_t flags = 0x808;  ///< as PyTorch: UTF-8, sizes behind the data
  uint16_t method = 0;
  std::optional<std::string> local_name = {};
  std::optional<uint16_t> local_flags = {};
  std::optional<uint32_t> local_size = {};      ///< in the local header
  std::optional<uint32_t> central_size = {};    ///< both sizes in the directory
  std::optional<uint32_t> central_stored = {};  ///< the stored size alone
  std::optional<uint32_t> central_offset = {};
  std::optional<uint64_t> descriptor_size = {};
  std::string central_extra = {};
  std::string local_extra = {};
  std::string central_comment = {};
};

/// What the end of the archive says.
struct ZipEndSpec {
  bool zip64 = true;  ///< as PyTorch: the ZIP64 records always
  std::optional<uint64_t> entries = {};
  std::optional<uint64_t> directory_offset = {};
  std::optional<uint64_t> directory_size = {};
  std::optional<uint64_t> short_offset = {};  ///< in the 32-bit record
  std::optional<uint64_t> locator = {};
  std::string comment = {};
};

inline std::string MakeZip(const std::vector<ZipMemberSpec>& members, const ZipEndSpec& end = {}) {
  const uint32_t crc = 0x12345678;  // checksums are compared, never computed
  std::string zip;
  std::string directory;
  for (const ZipMemberSpec& member : members) {
    const bool described = (member.flags & 8) != 0;
    const auto size = static_cast<uint32_t>(member.data.size());
    const std::string local_name = member.local_name.value_or(member.name);
    const uint32_t local_size = member.local_size.value_or(described ? 0 : size);
    const auto offset = member.central_offset.value_or(static_cast<uint32_t>(zip.size()));
    zip +=
        "PK\3\4" + LittleEndian(0, 2) + LittleEndian(member.local_flags.value_or(member.flags), 2) +
        LittleEndian(member.method, 2) + LittleEndian(0, 4) + LittleEndian(described ? 0 : crc, 4) +
        LittleEndian(local_size, 4) + LittleEndian(local_size, 4) +
        LittleEndian(local_name.size(), 2) + LittleEndian(member.local_extra.size(), 2) +
        local_name + member.local_extra + member.data;
    if (described) {
      const uint64_t told = member.descriptor_size.value_or(size);
      zip += "PK\7\10" + LittleEndian(crc, 4) + LittleEndian(told, 4) + LittleEndian(told, 4);
    }
    const uint32_t central = member.central_size.value_or(size);
    directory +=
        "PK\1\2" + LittleEndian(0, 4) + LittleEndian(member.flags, 2) +
        LittleEndian(member.method, 2) + LittleEndian(0, 4) + LittleEndian(crc, 4) +
        LittleEndian(member.central_stored.value_or(central), 4) + LittleEndian(central, 4) +
        LittleEndian(member.name.size(), 2) + LittleEndian(member.central_extra.size(), 2) +
        LittleEndian(member.central_comment.size(), 2) + LittleEndian(0, 8) +
        LittleEndian(offset, 4) + member.name + member.central_extra + member.central_comment;
  }
  const uint64_t begin = end.directory_offset.value_or(zip.size());
  const uint64_t bytes = end.directory_size.value_or(directory.size());
  const uint64_t entries = end.entries.value_or(members.size());
  zip += directory;
  if (end.zip64) {
    const uint64_t at = end.locator.value_or(zip.size());
    zip += "PK\6\6" + LittleEndian(44, 8) + LittleEndian(0, 4) + LittleEndian(0, 8) +
           LittleEndian(entries, 8) + LittleEndian(entries, 8) + LittleEndian(bytes, 8) +
           LittleEndian(begin, 8);
    zip += "PK\6\7" + LittleEndian(0, 4) + LittleEndian(at, 8) + LittleEndian(1, 4);
  }
  const auto saturated = [](uint64_t value, uint64_t most) { return value < most ? value : most; };
  const uint64_t short_entries = saturated(entries, 0xffff);
  const uint64_t short_offset = end.short_offset.value_or(saturated(begin, 0xffffffff));
  zip += "PK\5\6" + LittleEndian(0, 4) + LittleEndian(short_entries, 2) +
         LittleEndian(short_entries, 2) + LittleEndian(saturated(bytes, 0xffffffff), 4) +
         LittleEndian(short_offset, 4) + LittleEndian(end.comment.size(), 2) + end.comment;
  return zip;
}

/// A PyTorch archive of this pickle and these storages ("data/0", "data/1" ...).
inline std::vector<ZipMemberSpec> TorchMembers(const std::string& pickle,
                                               const std::vector<std::string>& storages) {
  std::vector<ZipMemberSpec> members = {{.name = "m/data.pkl", .data = pickle},
                                        {.name = "m/byteorder", .data = "little"}};
  for (size_t i = 0; i < storages.size(); ++i) {
    members.push_back({.name = "m/data/" + std::to_string(i), .data = storages[i]});
  }
  members.push_back({.name = "m/version", .data = "3\n"});
  return members;
}

/// A good file: float32 "a" of shape [2] and a transposed view "b" of shape [3, 2] of one storage.
inline std::string GoodTorchZip() {
  const std::string pickle = MakeStateDict({
      {.name = "a", .elements = 2, .shape = {2}, .strides = {1}},
      {.name = "b", .key = "1", .elements = 8, .offset = 1, .shape = {3, 2}, .strides = {1, 3}},
  });
  return MakeZip(TorchMembers(pickle, {std::string("abcdefgh"), std::string(32, 'x')}));
}

}  // namespace xcomposer::testing_support
