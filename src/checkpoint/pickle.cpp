#include "checkpoint/pickle.h"

#include <algorithm>
#include <set>
#include <utility>

#include "base/utf8.h"
#include "checkpoint/byte_reader.h"
#include "checkpoint/pickle_globals.h"
#include "checkpoint/pickle_stack.h"
#include "checkpoint/tensor_entry.h"

namespace xcomposer {
namespace {

constexpr int64_t kLongestGlobal = 256;

// The opcodes of protocol 2 that torch.save emits for a dict of tensors.
enum Op : uint8_t {
  kProto = 0x80,
  kStop = '.',
  kMark = '(',
  kNone = 'N',
  kNewTrue = 0x88,
  kNewFalse = 0x89,
  kBinInt = 'J',
  kBinInt1 = 'K',
  kBinInt2 = 'M',
  kLong1 = 0x8a,
  kBinUnicode = 'X',
  kEmptyTuple = ')',
  kTuple = 't',
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kEmptyList = ']',
  kAppend = 'a',
  kAppends = 'e',
  kEmptyDict = '}',
  kSetItem = 's',
  kSetItems = 'u',
  kGlobal = 'c',
  kReduce = 'R',
  kBuild = 'b',
  kBinPersId = 'Q',
  kBinPut = 'q',
  kLongBinPut = 'r',
  kBinGet = 'h',
  kLongBinGet = 'j',
};

using Kind = PickleKind;

struct Storage {
  DType dtype = DType::kF32;
  std::string_view key;
  int64_t elements = 0;
};

using Dict = std::vector<std::pair<std::string_view, PickleValue>>;

class Unpickler {
 public:
  Unpickler(std::span<const std::byte> bytes, std::string_view file, const CheckpointLimits& limits)
      : reader_(bytes, {.file = file, .part = kPicklePart}),
        file_(file),
        limits_(limits),
        stack_(file, limits) {}

  std::vector<PickledTensor> Read() {
    if (reader_.U8() != kProto || reader_.U8() != 2) {
      RefuseHere(
          "the pickle is not of protocol 2; save it again with torch.save's default protocol");
    }
    for (;;) {
      stack_.SetOffset(reader_.position());
      const uint8_t op = reader_.U8();
      if (op == kStop) break;
      Step(op);
    }
    const PickleValue top = stack_.Pop();
    if (!stack_.IsEmpty()) RefuseHere("the pickle ends with values left over");
    if (reader_.remaining() != 0) {
      RefuseHere(reader_.remaining(), " bytes follow the end of the pickle");
    }
    return StateDict(top);
  }

 private:
  template <typename... Parts>
  [[noreturn]] void RefuseHere(const Parts&... parts) const {
    stack_.RefuseHere(parts...);
  }

  // Opcodes --------------------------------------------------------------------------------------

  void Step(uint8_t op) {
    switch (op) {
      case kMark:
        return stack_.Mark();
      case kNone:
        return stack_.Push({.kind = Kind::kNone});
      case kNewTrue:
        return stack_.Push({.kind = Kind::kBool, .number = 1});
      case kNewFalse:
        return stack_.Push({.kind = Kind::kBool, .number = 0});
      case kBinInt:
        return PushInt(static_cast<int32_t>(reader_.U32()));
      case kBinInt1:
        return PushInt(reader_.U8());
      case kBinInt2:
        return PushInt(reader_.U16());
      case kLong1:
        return PushLong();
      case kBinUnicode:
        return PushText();
      case kBinPut:
        return stack_.Put(reader_.U8());
      case kLongBinPut:
        return stack_.Put(reader_.U32());
      case kBinGet:
        return stack_.Get(reader_.U8());
      case kLongBinGet:
        return stack_.Get(reader_.U32());
      case kGlobal:
        return PushGlobal();
      case kReduce:
        return Reduce();
      case kBuild:
        return Build();
      case kBinPersId:
        return PersistentId();
      default:
        return StepContainer(op);
    }
  }

  void StepContainer(uint8_t op) {
    switch (op) {
      case kEmptyTuple:
        return PushTuple(stack_.size());
      case kTuple:
        return PushTuple(stack_.PopMark());
      case kTuple1:
      case kTuple2:
      case kTuple3: {
        const size_t count = op - kTuple1 + 1u;
        if (stack_.Reachable() < count) RefuseHere("the pickle's stack is too short for a tuple");
        return PushTuple(stack_.size() - count);
      }
      case kEmptyList:
        return stack_.Push({.kind = Kind::kList});
      case kAppend:
        stack_.Pop();
        return stack_.RequireKind(stack_.Top(), Kind::kList, "the target of an append");
      case kAppends:
        stack_.CutTo(stack_.PopMark());
        return stack_.RequireKind(stack_.Top(), Kind::kList, "the target of an append");
      case kEmptyDict:
        return PushDict();
      case kSetItem:
        if (stack_.Reachable() < 3) RefuseHere("the pickle's stack is too short for an item");
        return SetItems(stack_.size() - 2);
      case kSetItems:
        return SetItems(stack_.PopMark());
      default:
        RefuseHere(
            "the opcode ", static_cast<int>(op),
            " does not occur in weight files as torch.save writes them; nothing was executed");
    }
  }

  void PushInt(int64_t value) { stack_.Push({.kind = Kind::kInt, .number = value}); }

  // LONG1: a little-endian two's complement number of any length; sizes need at most 8 bytes.
  void PushLong() {
    const int64_t count = reader_.U8();
    if (count > 8) RefuseHere("an integer of ", count, " bytes; at most 8 are accepted");
    uint64_t value = 0;
    int shift = 0;
    for (const std::byte byte : reader_.Take(count)) {
      value |= static_cast<uint64_t>(byte) << shift;
      shift += 8;
    }
    const bool negative = count > 0 && (value >> (shift - 1)) != 0;
    if (negative && shift < 64) value |= ~uint64_t{0} << shift;
    PushInt(static_cast<int64_t>(value));
  }

  void PushText() {
    const int64_t length = reader_.U32();
    const std::string_view text = reader_.TakeText(length);
    if (!IsValidUtf8(text)) RefuseHere("a text that is not UTF-8: ", Quoted(text));
    stack_.Push({.kind = Kind::kText, .text = text});
  }

  void PushTuple(size_t begin) {
    const std::span<const PickleValue> items = stack_.From(begin);
    const auto count = static_cast<int64_t>(items.size());
    stack_.Count(count);
    const auto first = static_cast<int64_t>(items_.size());
    items_.insert(items_.end(), items.begin(), items.end());
    stack_.CutTo(begin);
    stack_.Push({.kind = Kind::kTuple, .number = first, .size = count});
  }

  void PushDict() {
    stack_.Count(1);
    dicts_.emplace_back();
    stack_.Push({.kind = Kind::kDict, .number = static_cast<int64_t>(dicts_.size()) - 1});
  }

  // The pairs from `begin` to the top of the stack go into the dict below them.
  void SetItems(size_t begin) {
    const PickleValue target = stack_.Below(begin);
    const std::span<const PickleValue> pairs = stack_.From(begin);
    if (pairs.size() % 2 != 0) RefuseHere("an item of a dict lacks its value");
    stack_.RequireKind(target, Kind::kDict, "the target of an item");
    stack_.Count(static_cast<int64_t>(pairs.size()));
    Dict& dict = dicts_[static_cast<size_t>(target.number)];
    for (size_t i = 0; i < pairs.size(); i += 2) {
      stack_.RequireKind(pairs[i], Kind::kText, "a key of a dict");
      dict.emplace_back(pairs[i].text, pairs[i + 1]);
    }
    stack_.CutTo(begin);
  }

  std::string_view Line() {
    const int64_t most = std::min(kLongestGlobal, reader_.remaining());
    const int64_t begin = reader_.position();
    const std::string_view ahead = reader_.TakeText(most);
    const size_t end = ahead.find('\n');
    if (end == std::string_view::npos) RefuseHere("a global without an end: ", Quoted(ahead));
    reader_.Seek(begin + static_cast<int64_t>(end) + 1);
    return ahead.substr(0, end);
  }

  void PushGlobal() {
    const std::string_view module = Line();
    const std::string_view name = Line();
    const std::optional<KnownGlobal> known = FindPickleGlobal(module, name);
    if (!known) {
      RefuseHere(
          "the global ", Quoted(StrCat(module, ".", name)),
          " is not one that weight files need, so the file is refused; nothing was executed");
    }
    globals_.push_back(*known);
    stack_.Count(1);
    stack_.Push({.kind = Kind::kGlobal, .number = static_cast<int64_t>(globals_.size()) - 1});
  }

  const KnownGlobal& GlobalOf(const PickleValue& value) const {
    return globals_[static_cast<size_t>(value.number)];
  }

  std::span<const PickleValue> ItemsOf(const PickleValue& tuple) const {
    return std::span(items_).subspan(static_cast<size_t>(tuple.number),
                                     static_cast<size_t>(tuple.size));
  }

  void Reduce() {
    const PickleValue arguments = stack_.Pop(Kind::kTuple, "the argument list");
    const PickleValue callee = stack_.Pop(Kind::kGlobal, "the callee");
    switch (GlobalOf(callee).global) {
      case PickleGlobal::kOrderedDict:
        if (arguments.size != 0) RefuseHere("an OrderedDict with arguments");
        return PushDict();
      case PickleGlobal::kRebuildTensor:
        return RebuildTensor(ItemsOf(arguments));
      case PickleGlobal::kRebuildParameter:
        return RebuildParameter(ItemsOf(arguments));
      case PickleGlobal::kStorage:
        RefuseHere("a storage class that is called");
    }
  }

  // The state of an object: OrderedDicts of torch carry a "_metadata" of module versions, not
  // needed.
  void Build() {
    stack_.Pop(Kind::kDict, "the state of an object");
    stack_.RequireKind(stack_.Top(), Kind::kDict, "an object with state");
  }

  // ("storage", class, key, device, elements)
  void PersistentId() {
    const PickleValue id = stack_.Pop(Kind::kTuple, "a persistent id");
    const std::span<const PickleValue> items = ItemsOf(id);
    if (items.size() != 5) RefuseHere("a persistent id of ", items.size(), " items; expected 5");
    stack_.RequireKind(items[0], Kind::kText, "the type of a persistent id");
    stack_.RequireKind(items[1], Kind::kGlobal, "the class of a storage");
    stack_.RequireKind(items[2], Kind::kText, "the key of a storage");
    stack_.RequireKind(items[3], Kind::kText, "the device of a storage");
    stack_.RequireKind(items[4], Kind::kInt, "the size of a storage");
    const KnownGlobal& known = GlobalOf(items[1]);
    const std::string_view key = items[2].text;
    if (items[0].text != "storage" || known.global != PickleGlobal::kStorage) {
      RefuseHere("a persistent id that is no storage");
    }
    const bool digits =
        std::all_of(key.begin(), key.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (key.empty() || key.size() > 20 || !digits) {
      RefuseHere("a storage with the key ", Quoted(key), "; expected a number");
    }
    if (items[4].number < 0) RefuseHere("a storage of ", items[4].number, " elements");
    stack_.Count(1);
    storages_.push_back({.dtype = known.dtype, .key = key, .elements = items[4].number});
    stack_.Push({.kind = Kind::kStorage, .number = static_cast<int64_t>(storages_.size()) - 1});
  }

  // (storage, offset, size, stride, requires_grad, backward_hooks[, metadata])
  void RebuildTensor(std::span<const PickleValue> items) {
    if (items.size() != 6 && items.size() != 7) {
      RefuseHere("a tensor of ", items.size(), " arguments; expected 6 or 7");
    }
    stack_.RequireKind(items[0], Kind::kStorage, "the storage of a tensor");
    stack_.RequireKind(items[1], Kind::kInt, "the offset of a tensor");
    stack_.RequireKind(items[4], Kind::kBool, "requires_grad of a tensor");
    RequireEmptyDict(items[5], "the hooks of a tensor");
    if (items.size() == 7) RequireEmptyDict(items[6], "the metadata of a tensor");
    const Storage& storage = storages_[static_cast<size_t>(items[0].number)];
    PickledTensor tensor{.name = {},
                         .dtype = storage.dtype,
                         .storage = std::string(storage.key),
                         .storage_elements = storage.elements,
                         .offset = items[1].number,
                         .shape = Sizes(items[2], "the shape of a tensor"),
                         .strides = Sizes(items[3], "the strides of a tensor")};
    if (tensor.shape.size() != tensor.strides.size() || tensor.offset < 0) {
      RefuseHere("a tensor of shape ", ShapeText(tensor.shape), ", strides ",
                 ShapeText(tensor.strides), " and offset ", tensor.offset);
    }
    if (static_cast<int64_t>(tensors_.size()) >= limits_.max_tensors) {
      RefuseHere("more than ", limits_.max_tensors, " tensors");
    }
    tensors_.push_back(std::move(tensor));
    stack_.Push({.kind = Kind::kTensor, .number = static_cast<int64_t>(tensors_.size()) - 1});
  }

  // (tensor, requires_grad, backward_hooks)
  void RebuildParameter(std::span<const PickleValue> items) {
    if (items.size() != 3) RefuseHere("a parameter of ", items.size(), " arguments; expected 3");
    stack_.RequireKind(items[0], Kind::kTensor, "the data of a parameter");
    stack_.RequireKind(items[1], Kind::kBool, "requires_grad of a parameter");
    RequireEmptyDict(items[2], "the hooks of a parameter");
    stack_.Push(items[0]);
  }

  void RequireEmptyDict(const PickleValue& value, const char* what) const {
    stack_.RequireKind(value, Kind::kDict, what);
    if (!dicts_[static_cast<size_t>(value.number)].empty()) {
      RefuseHere(what, " are not empty; only plain tensors are accepted");
    }
  }

  std::vector<int64_t> Sizes(const PickleValue& tuple, const char* what) const {
    stack_.RequireKind(tuple, Kind::kTuple, what);
    if (tuple.size > kMaxRank) RefuseHere(what, " has ", tuple.size, " dimensions");
    std::vector<int64_t> sizes;
    for (const PickleValue& item : ItemsOf(tuple)) {
      stack_.RequireKind(item, Kind::kInt, what);
      if (item.number < 0) RefuseHere(what, " holds the negative number ", item.number);
      sizes.push_back(item.number);
    }
    return sizes;
  }

  // The result ------------------------------------------------------------------------------------

  std::vector<PickledTensor> StateDict(const PickleValue& top) const {
    stack_.RequireKind(top, Kind::kDict, "the object of the file");
    const Dict& dict = dicts_[static_cast<size_t>(top.number)];
    // A tensor may stand under several names, so the names are counted too.
    if (static_cast<int64_t>(dict.size()) > limits_.max_tensors) {
      RefuseHere("more than ", limits_.max_tensors, " tensors");
    }
    std::vector<PickledTensor> state;
    std::set<std::string_view> seen;
    state.reserve(dict.size());
    for (const auto& [name, value] : dict) {
      RequireTensorName(name, {.file = file_, .part = kPicklePart});
      const Place place{.file = file_, .tensor = name, .part = kPicklePart};
      if (!seen.insert(name).second) Refuse(place, "occurs twice");
      if (value.kind != Kind::kTensor) {
        Refuse(
            place, "the entry is ", Word(value.kind),
            "; expected a flat dict from names to tensors. If this is a training checkpoint, save "
            "its state dict alone");
      }
      state.push_back(tensors_[static_cast<size_t>(value.number)]);
      state.back().name = name;
    }
    return state;
  }

  ByteReader reader_;
  std::string_view file_;
  const CheckpointLimits& limits_;
  PickleStack stack_;
  std::vector<PickleValue> items_;  // of all tuples
  std::vector<Dict> dicts_;
  std::vector<KnownGlobal> globals_;
  std::vector<Storage> storages_;
  std::vector<PickledTensor> tensors_;
};

}  // namespace

std::vector<PickledTensor> ReadPickledStateDict(std::span<const std::byte> bytes,
                                                std::string_view file,
                                                const CheckpointLimits& limits) {
  const auto size = static_cast<int64_t>(bytes.size());
  if (size > limits.max_pickle_bytes) {
    Refuse({.file = file, .part = kPicklePart}, "a pickle of ", size, " bytes; at most ",
           limits.max_pickle_bytes, " are accepted");
  }
  return Unpickler(bytes, file, limits).Read();
}

}  // namespace xcomposer
