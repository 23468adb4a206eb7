#pragma once

#include <functional>
#include <string>

#include "checkpoint/checkpoint.h"

namespace xcomposer {

/// SHA-256 over names, types, shapes and places of all tensors, the sizes of all files, and 64 KiB
/// at the beginning, in the middle and at the end of each file: tells apart checkpoints that
/// differ, in milliseconds, but not one byte changed elsewhere. Independent of where the folder
/// lies and what its files are called.
std::string WeightFingerprint(const Checkpoint& checkpoint);

/// SHA-256 of one whole file, as sha256sum prints it. `progress` is told the bytes read so far.
std::string FileHash(const std::filesystem::path& file,
                     const std::function<void(int64_t bytes)>& progress);

}  // namespace xcomposer
