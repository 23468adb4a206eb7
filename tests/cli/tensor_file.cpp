#include "cli/tensor_file.h"

#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace xcomposer::testing {
namespace {

template <typename T>
std::vector<double> Widen(const char* data, size_t bytes) {
  std::vector<double> values(bytes / sizeof(T));
  for (size_t i = 0; i < values.size(); ++i) {
    T value;
    std::memcpy(&value, data + i * sizeof(T), sizeof(T));
    values[i] = static_cast<double>(value);
  }
  return values;
}

std::vector<double> Values(const std::string& dtype, const char* data, size_t bytes) {
  if (dtype == "F32") return Widen<float>(data, bytes);
  if (dtype == "I32") return Widen<int32_t>(data, bytes);
  if (dtype == "U8") return Widen<uint8_t>(data, bytes);
  throw std::runtime_error("the test reader does not know the type " + dtype);
}

}  // namespace

std::map<std::string, Tensor> ReadTensors(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  const std::string file((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  uint64_t length = 0;
  if (file.size() < sizeof(length)) throw std::runtime_error("cannot read " + path);
  std::memcpy(&length, file.data(), sizeof(length));
  const auto header = nlohmann::json::parse(file.substr(8, length));
  std::map<std::string, Tensor> tensors;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    const size_t begin = entry["data_offsets"][0], end = entry["data_offsets"][1];
    const std::string dtype = entry["dtype"];
    tensors[name] = {dtype, entry["shape"],
                     Values(dtype, file.data() + 8 + length + begin, end - begin)};
  }
  return tensors;
}

Tensor TakeRows(const Tensor& tensor, const Tensor& rows) {
  Tensor taken{tensor.dtype, tensor.shape, {}};
  taken.shape.front() = static_cast<int64_t>(rows.values.size());
  for (const double row : rows.values) {
    if (row < 0 || row >= static_cast<double>(tensor.rows())) {
      throw std::out_of_range("row " + std::to_string(row) + " of " +
                              std::to_string(tensor.rows()));
    }
    const auto first = tensor.values.begin() + static_cast<int64_t>(row) * tensor.row_size();
    taken.values.insert(taken.values.end(), first, first + tensor.row_size());
  }
  return taken;
}

}  // namespace xcomposer::testing
