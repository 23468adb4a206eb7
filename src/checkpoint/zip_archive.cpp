#include "checkpoint/zip_archive.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/checked_math.h"
#include "base/utf8.h"
#include "checkpoint/byte_reader.h"

namespace xcomposer {
namespace {

constexpr uint32_t kLocalSignature = 0x04034b50;
constexpr uint32_t kCentralSignature = 0x02014b50;
constexpr uint32_t kDescriptorSignature = 0x08074b50;
constexpr uint32_t kEndSignature = 0x06054b50;
constexpr uint32_t kEnd64Signature = 0x06064b50;
constexpr uint32_t kLocator64Signature = 0x07064b50;
constexpr int64_t kEndBytes = 22;
constexpr int64_t kEnd64Bytes = 56;
constexpr int64_t kLocator64Bytes = 20;
constexpr int64_t kCentralBytes = 46;
constexpr uint32_t kSaturated32 = 0xffffffff;
constexpr uint16_t kSaturated16 = 0xffff;
constexpr uint16_t kZip64Extra = 1;
constexpr uint16_t kFlagDescriptor = 1 << 3;
constexpr uint16_t kFlagUtf8 = 1 << 11;
constexpr size_t kLongestName = 1024;
constexpr std::string_view kDirectoryPart = "zip directory";
constexpr std::string_view kLocalPart = "zip member header";

// Sizes and the offset of a header: 32-bit fields that may stand for 64-bit ones in the extra
// field.
struct Extent {
  uint64_t stored = 0;    // bytes in the archive
  uint64_t unpacked = 0;  // bytes after decompression
  uint64_t offset = 0;    // of the local header
};

struct CentralEntry {
  std::string name;
  uint16_t flags = 0;
  uint32_t crc = 0;
  Extent extent;
};

// Where the central directory lies.
struct DirectoryRange {
  uint64_t entries = 0;
  uint64_t size = 0;
  uint64_t offset = 0;
  int64_t end = 0;  // where the records behind it start
};

// Fills the saturated fields of `extent` from the ZIP64 record among `extra`; a saturated field
// without one, a second record or one of another length is refused. A field that is not wanted is
// null.
void ReadExtra(std::span<const std::byte> extra, const Place& place,
               std::span<uint64_t* const> saturated) {
  ByteReader reader(extra, {.file = place.file, .part = "zip extra field"});
  bool found = false;
  while (reader.remaining() > 0) {
    const uint16_t id = reader.U16();
    const int64_t length = reader.U16();
    if (id != kZip64Extra) {
      reader.Take(length);
      continue;
    }
    if (found) Refuse(place, "two ZIP64 records for one member");
    found = true;
    if (saturated.empty()) {
      // Local headers with a descriptor carry a record that is not needed to read them.
      reader.Take(length);
      continue;
    }
    if (length != static_cast<int64_t>(8 * saturated.size())) {
      Refuse(place, "a ZIP64 record of ", length, " bytes where ", 8 * saturated.size(),
             " are needed");
    }
    for (uint64_t* field : saturated) *field = reader.U64();
  }
  if (!saturated.empty() && !found) Refuse(place, "a ZIP64 record is missing");
}

class DirectoryReader {
 public:
  DirectoryReader(std::span<const std::byte> bytes, std::string_view file,
                  const CheckpointLimits& limits)
      : bytes_(bytes), file_(file), limits_(limits), size_(static_cast<int64_t>(bytes.size())) {}

  ZipDirectory Read() {
    const DirectoryRange range = ReadEnd();
    const std::vector<CentralEntry> entries = ReadCentral(range);
    ZipDirectory directory;
    directory.prefix = CommonPrefix(entries);
    directory.members.reserve(entries.size());
    std::vector<std::pair<int64_t, int64_t>> regions;  // of each member, header to descriptor
    regions.reserve(entries.size());
    for (const CentralEntry& entry : entries) {
      const ZipMember member = ReadLocal(entry, static_cast<int64_t>(range.offset));
      const int64_t end = member.offset + member.size + DescriptorBytes(entry, member);
      if (end > static_cast<int64_t>(range.offset))
        RefuseMember(entry.name, "runs into the directory");
      regions.emplace_back(static_cast<int64_t>(entry.extent.offset), end);
      directory.members.push_back(member);
      directory.members.back().name = entry.name.substr(directory.prefix.size() + 1);
    }
    RequireDisjoint(regions);
    SortByName(directory.members);
    return directory;
  }

 private:
  ByteReader ReaderAt(int64_t offset, std::string_view part) const {
    ByteReader reader(bytes_, {.file = file_, .part = part});
    reader.Seek(offset);
    return reader;
  }

  template <typename... Parts>
  [[noreturn]] void RefuseMember(std::string_view name, const Parts&... parts) const {
    Refuse({.file = file_, .part = kDirectoryPart}, "the member ", Quoted(name), " ", parts...);
  }

  DirectoryRange ReadEnd() const {
    const Place place{.file = file_, .part = kDirectoryPart};
    const int64_t at = size_ - kEndBytes;
    if (at < 0) Refuse(place, "a file of ", size_, " bytes is too short for a ZIP archive");
    ByteReader reader = ReaderAt(at, kDirectoryPart);
    if (reader.U32() != kEndSignature) {
      Refuse(place, "no end record in the last ", kEndBytes,
             " bytes: the file is truncated, has something appended or is no ZIP archive");
    }
    const uint16_t disk = reader.U16();
    const uint16_t directory_disk = reader.U16();
    const uint16_t entries_here = reader.U16();
    const uint16_t entries = reader.U16();
    const uint32_t size = reader.U32();
    const uint32_t offset = reader.U32();
    if (disk != 0 || directory_disk != 0 || entries_here != entries || reader.U16() != 0) {
      Refuse(place, "archives of several disks or with a comment are not accepted");
    }
    DirectoryRange range{.entries = entries, .size = size, .offset = offset, .end = at};
    const int64_t locator = at - kLocator64Bytes;
    if (locator >= 0 && ReaderAt(locator, kDirectoryPart).U32() == kLocator64Signature) {
      range = ReadEnd64(locator);
      const bool same = (entries == kSaturated16 || entries == range.entries) &&
                        (size == kSaturated32 || size == range.size) &&
                        (offset == kSaturated32 || offset == range.offset);
      if (!same) Refuse(place, "the ZIP64 end record contradicts the end record");
    } else if (entries == kSaturated16 || size == kSaturated32 || offset == kSaturated32) {
      Refuse(place, "the ZIP64 end record is missing");
    }
    RequireRange(range, place);
    return range;
  }

  DirectoryRange ReadEnd64(int64_t locator) const {
    const Place place{.file = file_, .part = kDirectoryPart};
    ByteReader reader = ReaderAt(locator + 4, kDirectoryPart);
    const uint32_t disk = reader.U32();
    const uint64_t at = reader.U64();
    const uint32_t disks = reader.U32();
    // The record must stand right before its locator: no room for a second directory.
    if (disk != 0 || disks != 1 || locator < kEnd64Bytes ||
        at != static_cast<uint64_t>(locator - kEnd64Bytes)) {
      Refuse(place, "the ZIP64 locator points to ", at, "; expected ", locator - kEnd64Bytes);
    }
    reader.Seek(static_cast<int64_t>(at));
    const bool head_good = reader.U32() == kEnd64Signature && reader.U64() == kEnd64Bytes - 12;
    reader.Take(4);  // versions
    const uint64_t disk_numbers = reader.U64();
    const uint64_t entries_here = reader.U64();
    DirectoryRange range;
    range.entries = reader.U64();
    range.size = reader.U64();
    range.offset = reader.U64();
    range.end = static_cast<int64_t>(at);
    if (!head_good || disk_numbers != 0 || entries_here != range.entries) {
      Refuse(place, "the ZIP64 end record is damaged");
    }
    return range;
  }

  void RequireRange(const DirectoryRange& range, const Place& place) const {
    const auto end = static_cast<uint64_t>(range.end);
    if (range.size > end || range.offset != end - range.size) {
      Refuse(place, "the directory is said to take ", range.size, " bytes from ", range.offset,
             ", but it must end at ", range.end);
    }
    if (range.entries > static_cast<uint64_t>(limits_.max_zip_entries)) {
      Refuse(place, range.entries, " members; at most ", limits_.max_zip_entries, " are accepted");
    }
    if (range.entries * kCentralBytes > range.size) {
      Refuse(place, range.entries, " members do not fit into a directory of ", range.size,
             " bytes");
    }
  }

  std::vector<CentralEntry> ReadCentral(const DirectoryRange& range) const {
    const auto directory = bytes_.subspan(range.offset, range.size);
    ByteReader reader(directory, {.file = file_, .part = kDirectoryPart});
    std::vector<CentralEntry> entries;
    entries.reserve(range.entries);
    for (uint64_t i = 0; i < range.entries; ++i) entries.push_back(ReadCentralEntry(reader));
    if (reader.remaining() != 0) {
      Refuse(reader.Here(), "the directory holds more than its ", range.entries, " members");
    }
    return entries;
  }

  CentralEntry ReadCentralEntry(ByteReader& reader) const {
    if (reader.U32() != kCentralSignature) Refuse(reader.Here(), "a directory entry is damaged");
    CentralEntry entry;
    reader.Take(4);  // versions
    entry.flags = reader.U16();
    const uint16_t method = reader.U16();
    reader.Take(4);  // time and date
    entry.crc = reader.U32();
    const uint32_t stored = reader.U32();
    const uint32_t unpacked = reader.U32();
    const int64_t name_bytes = reader.U16();
    const int64_t extra_bytes = reader.U16();
    const uint16_t comment_bytes = reader.U16();
    const uint16_t disk = reader.U16();
    reader.Take(6);  // attributes
    const uint32_t offset = reader.U32();
    entry.name = reader.TakeText(name_bytes);
    RequireName(entry.name);
    entry.extent = {.stored = stored, .unpacked = unpacked, .offset = offset};
    std::vector<uint64_t*> saturated;
    if (unpacked == kSaturated32) saturated.push_back(&entry.extent.unpacked);
    if (stored == kSaturated32) saturated.push_back(&entry.extent.stored);
    if (offset == kSaturated32) saturated.push_back(&entry.extent.offset);
    ReadExtra(reader.Take(extra_bytes), reader.Here(), saturated);
    if ((entry.flags & ~(kFlagDescriptor | kFlagUtf8)) != 0) {
      RefuseMember(entry.name, "is encrypted or has other flags (", entry.flags,
                   "); PyTorch writes none of them");
    }
    if (method != 0 || entry.extent.stored != entry.extent.unpacked) {
      RefuseMember(entry.name, "is compressed (method ", method, ", ", entry.extent.stored,
                   " bytes for ", entry.extent.unpacked,
                   "); weight files store their members. Repack the archive without compression");
    }
    if (comment_bytes != 0 || disk != 0) {
      RefuseMember(entry.name, "has a comment or lies on another disk");
    }
    return entry;
  }

  void RequireName(std::string_view name) const {
    const bool odd = name.size() > kLongestName || name.find('/') == std::string_view::npos ||
                     name.find('\0') != std::string_view::npos ||
                     name.find('\\') != std::string_view::npos || !IsValidUtf8(name);
    if (odd) RefuseMember(name, "has a name that is not of the form prefix/name");
    for (size_t at = 0; at <= name.size();) {
      const size_t end = std::min(name.find('/', at), name.size());
      const std::string_view step = name.substr(at, end - at);
      if (step.empty() || step == "." || step == "..") {
        RefuseMember(name, "has a name with an empty step, \".\" or \"..\"");
      }
      at = end + 1;
    }
  }

  std::string CommonPrefix(const std::vector<CentralEntry>& entries) const {
    if (entries.empty()) Refuse({.file = file_, .part = kDirectoryPart}, "the archive is empty");
    const std::string prefix = entries[0].name.substr(0, entries[0].name.find('/'));
    for (const CentralEntry& entry : entries) {
      if (entry.name.substr(0, entry.name.find('/')) != prefix) {
        RefuseMember(entry.name, "lies outside the prefix ", Quoted(prefix),
                     "; an archive of weights has one prefix");
      }
    }
    return prefix;
  }

  // Where the data of `entry` lies, after comparing its local header with the directory.
  ZipMember ReadLocal(const CentralEntry& entry, int64_t directory) const {
    const Extent& extent = entry.extent;
    if (extent.offset >= static_cast<uint64_t>(directory) ||
        extent.stored > static_cast<uint64_t>(directory)) {
      RefuseMember(entry.name, "is said to take ", extent.stored, " bytes behind ", extent.offset,
                   ", outside the ", directory, " bytes before the directory");
    }
    ByteReader reader = ReaderAt(static_cast<int64_t>(extent.offset), kLocalPart);
    if (reader.U32() != kLocalSignature) {
      RefuseMember(entry.name, "has no local header at byte ", extent.offset,
                   ", where the directory says it starts");
    }
    reader.Take(2);  // version
    const uint16_t flags = reader.U16();
    const uint16_t method = reader.U16();
    reader.Take(4);  // time and date
    const uint32_t crc = reader.U32();
    const uint32_t stored = reader.U32();
    const uint32_t unpacked = reader.U32();
    const int64_t name_bytes = reader.U16();
    const int64_t extra_bytes = reader.U16();
    const std::string_view name = reader.TakeText(name_bytes);
    if (flags != entry.flags || method != 0 || name != entry.name) {
      RefuseMember(entry.name, "has a local header that contradicts the directory");
    }
    // With a descriptor the local header may leave checksum and sizes zero.
    const bool described = (flags & kFlagDescriptor) != 0;
    const bool blank = described && crc == 0 && stored == 0 && unpacked == 0;
    Extent local{.stored = stored, .unpacked = unpacked};
    std::vector<uint64_t*> saturated;
    if (unpacked == kSaturated32) saturated.push_back(&local.unpacked);
    if (stored == kSaturated32) saturated.push_back(&local.stored);
    ReadExtra(reader.Take(extra_bytes), reader.Here(), saturated);
    if (!blank &&
        (crc != entry.crc || local.stored != extent.stored || local.unpacked != extent.unpacked)) {
      RefuseMember(entry.name, "has sizes in its local header that contradict the directory");
    }
    return {.name = {}, .offset = reader.position(), .size = static_cast<int64_t>(extent.stored)};
  }

  // The length of the descriptor behind the data (0 without one), which must repeat the directory.
  int64_t DescriptorBytes(const CentralEntry& entry, const ZipMember& member) const {
    if ((entry.flags & kFlagDescriptor) == 0) return 0;
    ByteReader reader = ReaderAt(member.offset, kLocalPart);
    reader.Take(member.size);
    const int64_t begin = reader.position();
    const uint64_t size = entry.extent.stored;
    if (reader.U32() == kDescriptorSignature && reader.U32() == entry.crc) {
      const int64_t sizes = reader.position();
      if (size < kSaturated32 && reader.U32() == size && reader.U32() == size) {
        return reader.position() - begin;
      }
      reader.Seek(sizes);
      if (reader.U64() == size && reader.U64() == size) return reader.position() - begin;
    }
    RefuseMember(entry.name, "has a descriptor behind its data that contradicts the directory");
  }

  void RequireDisjoint(std::vector<std::pair<int64_t, int64_t>>& regions) const {
    std::sort(regions.begin(), regions.end());
    for (size_t i = 1; i < regions.size(); ++i) {
      if (regions[i].first < regions[i - 1].second) {
        Refuse({.file = file_, .part = kDirectoryPart}, "two members overlap at byte ",
               regions[i].first);
      }
    }
  }

  void SortByName(std::vector<ZipMember>& members) const {
    std::sort(members.begin(), members.end(),
              [](const ZipMember& a, const ZipMember& b) { return a.name < b.name; });
    for (size_t i = 1; i < members.size(); ++i) {
      if (members[i].name == members[i - 1].name) {
        RefuseMember(members[i].name, "occurs twice in the archive");
      }
    }
  }

  std::span<const std::byte> bytes_;
  std::string_view file_;
  const CheckpointLimits& limits_;
  int64_t size_;
};

}  // namespace

const ZipMember* ZipDirectory::Find(std::string_view name) const {
  const auto found = std::lower_bound(
      members.begin(), members.end(), name,
      [](const ZipMember& member, std::string_view wanted) { return member.name < wanted; });
  return found != members.end() && found->name == name ? &*found : nullptr;
}

ZipDirectory ReadZipDirectory(std::span<const std::byte> bytes, std::string_view file,
                              const CheckpointLimits& limits) {
  return DirectoryReader(bytes, file, limits).Read();
}

}  // namespace xcomposer
