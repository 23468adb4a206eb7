#include "checkpoint/safetensors.h"

#include <algorithm>
#include <optional>
#include <set>
#include <tuple>
#include <utility>

#include "base/checked_math.h"
#include "checkpoint/byte_reader.h"
#include "checkpoint/strict_json.h"

namespace xcomposer {
namespace {

constexpr int64_t kPrefixBytes = 8;
// Root, tensor, shape, and one more that the visitor refuses with a better message.
constexpr int64_t kMaxDepth = 4;
constexpr std::string_view kMetadata = "__metadata__";
constexpr std::string_view kPart = "header";

// Collects the entries of a header: {name: {"dtype": text, "shape": [n...], "data_offsets": [b,
// e]}}.
class HeaderVisitor : public JsonVisitor {
 public:
  HeaderVisitor(std::string_view file, const CheckpointLimits& limits)
      : file_(file), limits_(limits) {}

  void BeginObject(const JsonPath& path) override {
    if (path.empty()) return;
    if (path.size() > 1 || array_) RefuseShape(path);
    if (path[0] == kMetadata) return;
    RequireTensorName(path[0], Place{.file = file_, .part = kPart});
    if (static_cast<int64_t>(header_.tensors.size()) >= limits_.max_tensors) {
      Refuse({.file = file_, .part = kPart}, "more than ", limits_.max_tensors, " tensors");
    }
    dtype_.reset();
    shape_.reset();
    offsets_.reset();
  }

  void EndObject(const JsonPath& path) override {
    if (path.size() == 1 && path[0] != kMetadata) FinishTensor(path[0]);
  }

  void BeginArray(const JsonPath& path) override {
    if (array_ || path.size() != 2 || path[0] == kMetadata) RefuseShape(path);
    if (path[1] == "shape") {
      array_ = &shape_.emplace();
      longest_array_ = kMaxRank;
    } else if (path[1] == "data_offsets") {
      array_ = &offsets_.emplace();
      longest_array_ = 2;
    } else {
      RefuseShape(path);
    }
  }

  void EndArray(const JsonPath&) override { array_ = nullptr; }

  void Value(const JsonPath& path, const JsonScalar& value) override {
    if (path.size() == 2 && path[0] == kMetadata && std::holds_alternative<std::string>(value)) {
      if (static_cast<int64_t>(header_.metadata.size()) >= limits_.max_tensors) {
        Refuse({.file = file_, .part = kPart}, "more than ", limits_.max_tensors, " entries in ",
               kMetadata);
      }
      header_.metadata[path[1]] = std::get<std::string>(value);
      return;
    }
    if (path.size() != 2 || path[0] == kMetadata) RefuseShape(path);
    const Place place = TensorPlace(path[0]);
    if (array_) {
      AddNumber(path[1], value, place);
      return;
    }
    if (path[1] != "dtype" || !std::holds_alternative<std::string>(value)) RefuseShape(path);
    dtype_ = ParseDType(std::get<std::string>(value));
    if (!dtype_) {
      Refuse(place, "the dtype ", Quoted(std::get<std::string>(value)),
             " is not supported; expected F64, F32, F16, BF16, I64, I32, I16, I8, U8 or BOOL");
    }
  }

  SafetensorsHeader Take() { return std::move(header_); }

 private:
  Place TensorPlace(std::string_view name) const {
    return {.file = file_, .tensor = name, .part = kPart};
  }

  [[noreturn]] void RefuseShape(const JsonPath& path) const {
    std::string keys;
    for (const std::string& key : path) keys += StrCat(keys.empty() ? "" : " > ", Quoted(key));
    Place place{.file = file_, .part = kPart};
    if (!path.empty() && path[0] != kMetadata) place.tensor = path[0];
    Refuse(place, "unexpected value at ", keys.empty() ? "the root" : keys,
           "; expected {name: {\"dtype\": text, \"shape\": [...], \"data_offsets\": [begin, end]}} "
           "and "
           "a \"__metadata__\" of texts");
  }

  void AddNumber(const std::string& key, const JsonScalar& value, const Place& place) {
    const int64_t* number = std::get_if<int64_t>(&value);
    if (number == nullptr || *number < 0) {
      Refuse(place, Quoted(key), " holds something that is not an integer of 0 to 2^63-1");
    }
    if (static_cast<int64_t>(array_->size()) >= longest_array_) {
      Refuse(place, Quoted(key), " holds more than ", longest_array_, " numbers");
    }
    array_->push_back(*number);
  }

  void FinishTensor(const std::string& name) {
    const Place place = TensorPlace(name);
    if (!dtype_ || !shape_ || !offsets_) {
      Refuse(place, "lacks ", !dtype_ ? "dtype" : !shape_ ? "shape" : "data_offsets");
    }
    if (offsets_->size() != 2 || (*offsets_)[0] > (*offsets_)[1]) {
      Refuse(place, "data_offsets must be [begin, end] with begin <= end; found ",
             ShapeText(*offsets_));
    }
    const int64_t length = (*offsets_)[1] - (*offsets_)[0];
    const std::optional<int64_t> count = ElementCount(*shape_);
    const std::optional<int64_t> bytes = count ? CheckedMul(*count, SizeOf(*dtype_)) : std::nullopt;
    if (!bytes) Refuse(place, "the size of the shape ", ShapeText(*shape_), " overflows");
    if (*bytes != length) {
      Refuse(place, ToString(*dtype_), " of shape ", ShapeText(*shape_), " takes ", *bytes,
             " bytes, but data_offsets span ", length);
    }
    std::vector<int64_t> strides = ContiguousStrides(*shape_);
    header_.tensors.push_back({.name = name,
                               .dtype = *dtype_,
                               .shape = *std::move(shape_),
                               .strides = std::move(strides),
                               .offset = (*offsets_)[0],
                               .byte_length = length});
  }

  std::string_view file_;
  const CheckpointLimits& limits_;
  SafetensorsHeader header_;
  // The tensor that is being read.
  std::optional<DType> dtype_;
  std::optional<std::vector<int64_t>> shape_;
  std::optional<std::vector<int64_t>> offsets_;
  std::vector<int64_t>* array_ = nullptr;  // the open one of the two above
  int64_t longest_array_ = 0;
};

// Tensors must tile the data from its first to its last byte: no overlap, no hole, nothing hidden.
void RequireTiling(std::vector<TensorEntry>& tensors, int64_t data_bytes, std::string_view file) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorEntry& a, const TensorEntry& b) {
    return std::tie(a.offset, a.byte_length, a.name) < std::tie(b.offset, b.byte_length, b.name);
  });
  int64_t end = 0;
  for (const TensorEntry& tensor : tensors) {
    const Place place{.file = file, .tensor = tensor.name, .part = kPart};
    if (tensor.offset != end) {
      Refuse(place, "its data starts at ", tensor.offset, ", but the tensors before it end at ",
             end, tensor.offset < end ? ": tensors overlap" : ": there is a hole between tensors");
    }
    // No overflow: the parser took both ends as int64.
    end += tensor.byte_length;
    if (end > data_bytes) {
      Refuse(place, "its data ends at ", end, ", but the file holds only ", data_bytes,
             " bytes of data; it is truncated");
    }
  }
  if (end != data_bytes) {
    Refuse({.file = file}, "the file holds ", data_bytes, " bytes of data, but its tensors end at ",
           end, "; it must end with its last tensor");
  }
}

}  // namespace

SafetensorsHeader ParseSafetensors(std::span<const std::byte> bytes, std::string_view file,
                                   const CheckpointLimits& limits) {
  const auto size = static_cast<int64_t>(bytes.size());
  const Place place{.file = file};
  ByteReader reader(bytes, {.file = file, .part = kPart});
  const uint64_t announced = reader.U64();
  if (announced > static_cast<uint64_t>(limits.max_header_bytes)) {
    Refuse(place, "the header is said to have ", announced, " bytes; at most ",
           limits.max_header_bytes, " are accepted. Is this a safetensors file?");
  }
  const auto header_bytes = static_cast<int64_t>(announced);
  const std::string_view text = reader.TakeText(header_bytes);
  if (text.empty() || text[0] != '{') {
    Refuse(place, "the header does not start with '{'. Is this a safetensors file?");
  }
  HeaderVisitor visitor(file, limits);
  // Tensors and metadata, both of which the visitor counts.
  const JsonLimits json{.max_depth = kMaxDepth,
                        .max_open_keys = 2 * limits.max_tensors + kMaxDepth};
  VisitJson(text, {.file = file, .part = kPart}, json, visitor);
  SafetensorsHeader header = visitor.Take();
  const int64_t data_begin = kPrefixBytes + header_bytes;
  RequireTiling(header.tensors, size - data_begin, file);
  for (TensorEntry& tensor : header.tensors) tensor.offset += data_begin;
  return header;
}

}  // namespace xcomposer
