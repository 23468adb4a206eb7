#pragma once

#include <cstdint>

namespace xcomposer::cuda {

/// Keys and values of one layer in blocks that any sequence may own; both on 16 bytes.
struct PagedCache {
  const void* keys = nullptr;    ///< (blocks, block_size, kv_heads, head_dim), as stored
  const void* values = nullptr;  ///< likewise
  const int32_t* block_tables =
      nullptr;  ///< (sequences, table_stride): blocks of positions 0, 1, ..
  int64_t table_stride = 0;
  int64_t block_size = 0;
};

}  // namespace xcomposer::cuda
