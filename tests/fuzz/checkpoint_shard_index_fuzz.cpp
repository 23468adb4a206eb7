#include "checkpoint/shard_index.h"
#include "fuzz/checkpoint_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace xcomposer;
  return fuzz::Run(data, size, [](std::span<const std::byte> bytes) {
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    const ShardIndex index = ParseShardIndex(text, "fuzz", fuzz::kLimits);
    const std::vector<std::string> shards = index.Shards();
    std::vector<TensorEntry> tensors;
    for (size_t i = 0; i < shards.size(); ++i) {
      fuzz::Promise(shards[i].find('/') == std::string::npos && shards[i] != "..");
      for (const auto& [name, shard] : index.weight_map) {
        if (shard == shards[i]) tensors.push_back({.name = name, .file = static_cast<int64_t>(i)});
      }
    }
    RequireIndexed({.weight_map = index.weight_map, .total_size = {}}, shards, tensors, "fuzz");
  });
}
