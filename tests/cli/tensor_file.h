#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace xcomposer::testing {

struct Tensor {
  std::string dtype;  ///< "F32", "I32" or "U8"
  std::vector<int64_t> shape;
  std::vector<double> values;  ///< all of these types fit exactly

  int64_t rows() const { return shape.empty() ? 1 : shape.front(); }
  int64_t row_size() const {
    return rows() == 0 ? 0 : static_cast<int64_t>(values.size()) / rows();
  }
};

/// Reads a .safetensors file that is known to be well-formed.
std::map<std::string, Tensor> ReadTensors(const std::string& path);

/// The given rows of the first dimension.
Tensor TakeRows(const Tensor& tensor, const Tensor& rows);

}  // namespace xcomposer::testing
