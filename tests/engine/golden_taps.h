#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

namespace xcomposer::testing {

inline std::filesystem::path GoldensFolder() {
  return std::filesystem::path(XCOMPOSER_SHARED_DIR) / "data" / "goldens";
}

inline nlohmann::json ReadJson(const std::filesystem::path& file) {
  std::ifstream in(file);
  if (!in) throw std::runtime_error("cannot read " + file.string());
  return nlohmann::json::parse(in);
}

/// Folders of the kinds that have recorded cases.
inline std::vector<std::filesystem::path> KindFolders() {
  std::vector<std::filesystem::path> folders;
  if (!std::filesystem::exists(GoldensFolder())) return folders;
  for (const auto& entry : std::filesystem::directory_iterator(GoldensFolder())) {
    if (std::filesystem::exists(entry.path() / "cases.json")) folders.push_back(entry.path());
  }
  return folders;
}

struct FloatTensor {
  std::vector<int64_t> shape;
  std::vector<float> values;

  int64_t last() const { return shape.back(); }
};

/// Reads float32 tensors of one trusted safetensors file; no checks, the tests bring their own
/// files.
class GoldenTaps {
 public:
  explicit GoldenTaps(const std::filesystem::path& file) {
    std::ifstream in(file, std::ios::binary);
    if (!in) throw std::runtime_error("cannot read " + file.string());
    bytes_.assign(std::istreambuf_iterator<char>(in), {});
    uint64_t header_size = 0;
    std::memcpy(&header_size, bytes_.data(), sizeof(header_size));
    data_ = sizeof(header_size) + header_size;
    header_ = nlohmann::json::parse(bytes_.begin() + sizeof(header_size), bytes_.begin() + data_);
  }

  bool Has(const std::string& name) const { return header_.contains(name); }

  FloatTensor Float(const std::string& name) const {
    const auto& entry = header_.at(name);
    if (entry.at("dtype") != "F32") throw std::runtime_error(name + " is not float32");
    FloatTensor tensor;
    tensor.shape = entry.at("shape").get<std::vector<int64_t>>();
    const uint64_t begin = entry.at("data_offsets")[0];
    const uint64_t end = entry.at("data_offsets")[1];
    tensor.values.resize((end - begin) / sizeof(float));
    std::memcpy(tensor.values.data(), bytes_.data() + data_ + begin, end - begin);
    return tensor;
  }

 private:
  std::vector<char> bytes_;
  nlohmann::json header_;
  size_t data_ = 0;
};

}  // namespace xcomposer::testing
