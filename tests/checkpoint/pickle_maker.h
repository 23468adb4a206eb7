#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/little_endian.h"

namespace xcomposer::testing_support {

/// Writes pickle opcodes one by one. Functions return the object, so that a pickle reads as a
/// chain.
class PickleMaker {
 public:
  PickleMaker() = default;

  PickleMaker& Raw(std::string_view bytes) {
    bytes_ += bytes;
    return *this;
  }
  PickleMaker& Proto(int version = 2) {
    return Raw("\x80").Raw(LittleEndian(static_cast<uint64_t>(version), 1));
  }
  PickleMaker& Text(std::string_view text) {
    return Raw("X").Raw(LittleEndian(text.size(), 4)).Raw(text);
  }
  PickleMaker& Int(int64_t value) {
    if (value >= 0 && value < 256)
      return Raw("K").Raw(LittleEndian(static_cast<uint64_t>(value), 1));
    if (value >= INT32_MIN && value <= INT32_MAX) {
      return Raw("J").Raw(LittleEndian(static_cast<uint64_t>(value), 4));
    }
    return Raw("\x8a\x08").Raw(LittleEndian(static_cast<uint64_t>(value), 8));
  }
  PickleMaker& Global(std::string_view module, std::string_view name) {
    return Raw("c").Raw(module).Raw("\n").Raw(name).Raw("\n");
  }
  PickleMaker& Put(uint8_t index) { return Raw("q").Raw(LittleEndian(index, 1)); }
  PickleMaker& Get(uint8_t index) { return Raw("h").Raw(LittleEndian(index, 1)); }
  PickleMaker& Ints(const std::vector<int64_t>& values) {
    Raw("(");
    for (const int64_t value : values) Int(value);
    return Raw("t");
  }
  /// collections.OrderedDict()
  PickleMaker& OrderedDict() { return Global("collections", "OrderedDict").Raw(")R"); }
  /// The persistent id of a storage.
  PickleMaker& Storage(std::string_view type, std::string_view key, int64_t elements) {
    return Raw("(")
        .Text("storage")
        .Global("torch", type)
        .Text(key)
        .Text("cpu")
        .Int(elements)
        .Raw("tQ");
  }

  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

/// A tensor for MakeStateDict, wrong in any way a test likes.
struct PickledView {
  std::string name = {};
  std::string type = "FloatStorage";
  std::string key = "0";
  int64_t elements = 0;
  int64_t offset = 0;
  std::vector<int64_t> shape = {};
  std::vector<int64_t> strides = {};
};

inline PickleMaker& AddTensor(PickleMaker& maker, const PickledView& view) {
  return maker.Global("torch._utils", "_rebuild_tensor_v2")
      .Raw("(")
      .Storage(view.type, view.key, view.elements)
      .Int(view.offset)
      .Ints(view.shape)
      .Ints(view.strides)
      .Raw("\x89")
      .OrderedDict()
      .Raw("tR");
}

/// The data.pkl of a state dict, as torch.save writes it.
inline std::string MakeStateDict(const std::vector<PickledView>& views) {
  PickleMaker maker;
  maker.Proto().OrderedDict().Put(0).Raw("(");
  for (const PickledView& view : views) AddTensor(maker.Text(view.name), view);
  maker.Raw("u}").Text("_metadata").OrderedDict().Raw("sb.");
  return maker.bytes();
}

}  // namespace xcomposer::testing_support
