#pragma once

#include <cstdint>

namespace xcomposer {

/// How much a weight file may ask a parser to do. The defaults are far above every published
/// checkpoint of the family (1,902 tensors, 300 KB of headers) and bound memory to a few hundred
/// MB.
struct CheckpointLimits {
  int64_t max_header_bytes =
      100'000'000;  ///< JSON header of a safetensors file, as its format sets it
  int64_t max_index_bytes = 100'000'000;  ///< *.index.json
  int64_t max_pickle_bytes = 64'000'000;  ///< data.pkl of a PyTorch archive
  int64_t max_pickle_values = 4'000'000;  ///< memo entries, tuple and dict items of one pickle
  int64_t max_pickle_stack = 1'000'000;   ///< values on the unpickler's stack
  int64_t max_tensors = 500'000;          ///< tensors of one file or index; entries of __metadata__
  int64_t max_zip_entries = 500'000;      ///< members of one archive
  int64_t max_files = 10'000;             ///< shards of one checkpoint
};

}  // namespace xcomposer
