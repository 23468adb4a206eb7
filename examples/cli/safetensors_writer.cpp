#include "safetensors_writer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <numeric>
#include <system_error>
#include <utility>

#include "strict_json.h"
#include "xcomposer/error.h"

namespace xcomposer::cli {
namespace {

[[noreturn]] void Fail(ErrorKind kind, const std::string& what, const std::filesystem::path& path) {
  throw Error(kind, what + " '" + path.string() + "': " + strerror(errno),
              {{"file", path.string()}});
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(std::filesystem::path path) : path_(std::move(path)) {
  // The finished file takes the path's place at the end, and nobody means /dev/null by that.
  std::error_code ignored;
  const std::filesystem::file_status there = std::filesystem::status(path_, ignored);
  if (std::filesystem::exists(there) && !std::filesystem::is_regular_file(there)) {
    throw Error(ErrorKind::kUsage,
                "cannot write '" + path_.string() +
                    "': expected the name of a file, found a folder or a device",
                {{"file", path_.string()}});
  }
  std::string pattern = path_.string() + ".XXXXXX";
  spool_ = mkstemp(pattern.data());
  if (spool_ < 0) Fail(ErrorKind::kUsage, "cannot write beside", path_);
  unlink(pattern.c_str());  // it goes with the process, however that ends
}

SafetensorsWriter::~SafetensorsWriter() { close(spool_); }

void SafetensorsWriter::Add(const std::string& name, const std::vector<int64_t>& shape,
                            const std::vector<float>& values) {
  Append({name, "F32", shape, static_cast<int64_t>(values.size() * sizeof(float))}, values.data());
}

void SafetensorsWriter::Add(const std::string& name, const std::vector<int64_t>& shape,
                            const std::vector<uint8_t>& bytes) {
  Append({name, "U8", shape, static_cast<int64_t>(bytes.size())}, bytes.data());
}

void SafetensorsWriter::Append(WrittenTensor tensor, const void* data) {
  const char* from = static_cast<const char*>(data);
  for (int64_t left = tensor.bytes; left > 0;) {
    const ssize_t written = write(spool_, from, static_cast<size_t>(left));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) Fail(ErrorKind::kInternal, "cannot write beside", path_);
    from += written;
    left -= written;
  }
  offsets_.push_back(spooled_);
  spooled_ += tensor.bytes;
  tensors_.push_back(std::move(tensor));
}

std::string SafetensorsWriter::Header(const std::map<std::string, std::string>& metadata,
                                      const std::vector<size_t>& order) const {
  nlohmann::json header = nlohmann::json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  int64_t offset = 0;
  for (const size_t index : order) {
    const WrittenTensor& tensor = tensors_[index];
    header[tensor.name] = {{"dtype", tensor.dtype},
                           {"shape", tensor.shape},
                           {"data_offsets", {offset, offset + tensor.bytes}}};
    offset += tensor.bytes;
  }
  std::string text = ToLine(header);
  text.append((8 - text.size() % 8) % 8, ' ');  // so that the data starts at a multiple of 8
  return text;
}

void SafetensorsWriter::CopyData(int64_t offset, int64_t bytes, std::ofstream& out) const {
  std::vector<char> chunk(size_t{1} << 20);
  while (bytes > 0) {
    const size_t wanted =
        static_cast<size_t>(std::min<int64_t>(bytes, static_cast<int64_t>(chunk.size())));
    const ssize_t got = pread(spool_, chunk.data(), wanted, offset);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) Fail(ErrorKind::kInternal, "cannot read back what was written beside", path_);
    out.write(chunk.data(), got);
    offset += got;
    bytes -= got;
  }
}

void SafetensorsWriter::Finish(const std::map<std::string, std::string>& metadata) {
  // The wider type first keeps every tensor aligned.
  std::vector<size_t> order(tensors_.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_partition(order.begin(), order.end(),
                        [this](size_t index) { return tensors_[index].dtype == "F32"; });
  const std::string header = Header(metadata, order);
  std::array<char, 8> length{};
  for (size_t i = 0; i < length.size(); ++i)
    length[i] = static_cast<char>((header.size() >> (8 * i)) & 255);

  const std::filesystem::path partial = path_.string() + ".partial";
  std::ofstream out(partial, std::ios::binary | std::ios::trunc);
  out.write(length.data(), length.size());
  out.write(header.data(), static_cast<std::streamsize>(header.size()));
  for (const size_t index : order) CopyData(offsets_[index], tensors_[index].bytes, out);
  out.close();
  std::error_code failed;
  if (out) std::filesystem::rename(partial, path_, failed);
  if (!out || failed) {
    std::filesystem::remove(partial, failed);
    throw Error(ErrorKind::kInternal, "cannot write '" + path_.string() + "'; is the disk full?",
                {{"file", path_.string()}});
  }
}

}  // namespace xcomposer::cli
