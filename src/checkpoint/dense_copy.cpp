#include "checkpoint/dense_copy.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace xcomposer {
namespace {

constexpr int64_t kChunkBytes = int64_t{4} << 20;

void Gather(const TensorEntry& entry, std::span<const std::byte> bytes, const ByteSink& sink) {
  const int64_t item = SizeOf(entry.dtype);
  const int64_t count = entry.NumElements();
  const size_t rank = entry.shape.size();
  std::vector<std::byte> chunk;
  chunk.reserve(static_cast<size_t>(std::min(count * item, kChunkBytes)));
  std::vector<int64_t> index(rank, 0);
  int64_t position = 0;  // of the current element, in elements
  for (int64_t i = 0; i < count; ++i) {
    const std::byte* element = bytes.data() + position * item;
    chunk.insert(chunk.end(), element, element + item);
    if (static_cast<int64_t>(chunk.size()) >= kChunkBytes) {
      sink(chunk);
      chunk.clear();
    }
    // Count up like an odometer, the last dimension fastest.
    for (size_t d = rank; d-- > 0;) {
      position += entry.strides[d];
      if (++index[d] < entry.shape[d]) break;
      position -= entry.strides[d] * entry.shape[d];
      index[d] = 0;
    }
  }
  if (!chunk.empty()) sink(chunk);
}

}  // namespace

void ForEachDenseChunk(const TensorEntry& entry, std::span<const std::byte> bytes,
                       const ByteSink& sink) {
  if (!entry.IsContiguous()) return Gather(entry, bytes, sink);
  while (!bytes.empty()) {
    const std::span<const std::byte> piece =
        bytes.first(std::min(bytes.size(), static_cast<size_t>(kChunkBytes)));
    sink(piece);
    bytes = bytes.subspan(piece.size());
  }
}

}  // namespace xcomposer
