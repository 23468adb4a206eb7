#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

namespace xcomposer::cli {

struct WrittenTensor {
  std::string name;
  std::string dtype;  ///< "F32" or "U8"
  std::vector<int64_t> shape;
  int64_t bytes = 0;
};

/// Writes a .safetensors file whose tensors come one after the other and need not fit into memory
/// together: the data waits in a nameless file until the header is known. The file appears only
/// when it is complete. Errors are kUsage (the path cannot be written) or kInternal (the disk is
/// full).
class SafetensorsWriter {
 public:
  explicit SafetensorsWriter(std::filesystem::path path);
  ~SafetensorsWriter();
  SafetensorsWriter(const SafetensorsWriter&) = delete;
  SafetensorsWriter& operator=(const SafetensorsWriter&) = delete;

  void Add(const std::string& name, const std::vector<int64_t>& shape,
           const std::vector<float>& values);
  void Add(const std::string& name, const std::vector<int64_t>& shape,
           const std::vector<uint8_t>& bytes);

  /// `metadata` goes into the header's "__metadata__".
  void Finish(const std::map<std::string, std::string>& metadata);

  const std::vector<WrittenTensor>& tensors() const { return tensors_; }

 private:
  void Append(WrittenTensor tensor, const void* data);
  std::string Header(const std::map<std::string, std::string>& metadata,
                     const std::vector<size_t>& order) const;
  void CopyData(int64_t offset, int64_t bytes, std::ofstream& out) const;

  std::filesystem::path path_;
  int spool_ = -1;
  std::vector<WrittenTensor> tensors_;
  std::vector<int64_t> offsets_;  // of each tensor in the spool
  int64_t spooled_ = 0;
};

}  // namespace xcomposer::cli
