#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/limits.h"

namespace xcomposer {

/// One stored member of an archive.
struct ZipMember {
  std::string name;    ///< without the prefix: "data.pkl", "data/0"
  int64_t offset = 0;  ///< bytes from the archive's start to the member's data
  int64_t size = 0;    ///< bytes of data
};

/// The directory of a ZIP archive as PyTorch writes them.
struct ZipDirectory {
  std::string prefix;              ///< the folder that every member lies in
  std::vector<ZipMember> members;  ///< by name

  /// The member `name`, or null where there is none.
  const ZipMember* Find(std::string_view name) const;
};

/// Reads the directory of the archive whose bytes are `bytes`, touching only its end, its central
/// directory and the local headers. Accepts what PyTorch writes: uncompressed members below one
/// prefix, ZIP64, UTF-8 names, sizes in a trailing descriptor. Everything else is refused with
/// kCheckpoint naming `file`: compression, encryption, comments, several disks, two members of one
/// name, names with "..", members that overlap, a local header or descriptor that contradicts the
/// directory. Checksums are not read, since that would touch every byte.
ZipDirectory ReadZipDirectory(std::span<const std::byte> bytes, std::string_view file,
                              const CheckpointLimits& limits = {});

}  // namespace xcomposer
