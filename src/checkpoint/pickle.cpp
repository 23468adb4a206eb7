#include "checkpoint/pickle.h"

#include <algorithm>
#include <set>
#include <utility>

#include "checkpoint/byte_reader.h"
#include "checkpoint/pickle_globals.h"
#include "checkpoint/tensor_entry.h"

namespace xcomposer {
namespace {

constexpr std::string_view kPart = "data.pkl";
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

enum class Kind : uint8_t {
  kNone,
  kBool,
  kInt,
  kText,
  kTuple,
  kList,  // its items are checked and dropped: no weight needs them
  kDict,
  kGlobal,
  kStorage,
  kTensor,
};

const char* Word(Kind kind) {
  switch (kind) {
    case Kind::kNone:
      return "None";
    case Kind::kBool:
      return "a bool";
    case Kind::kInt:
      return "an integer";
    case Kind::kText:
      return "a text";
    case Kind::kTuple:
      return "a tuple";
    case Kind::kList:
      return "a list";
    case Kind::kDict:
      return "a dict";
    case Kind::kGlobal:
      return "a class or function";
    case Kind::kStorage:
      return "a storage";
    case Kind::kTensor:
      return "a tensor";
  }
  return "something unknown";
}

// A value on the stack or in the memo: small, copied freely. Compound values are indices into the
// pools of the unpickler, so that a value used twice costs nothing and no value is walked
// recursively.
struct Value {
  Kind kind = Kind::kNone;
  int64_t number = 0;          // bool, int; index into a pool; first item of a tuple
  int64_t size = 0;            // items of a tuple
  std::string_view text = {};  // a view into the pickle
};

struct Storage {
  DType dtype = DType::kF32;
  std::string_view key;
  int64_t elements = 0;
};

using Dict = std::vector<std::pair<std::string_view, Value>>;

class Unpickler {
 public:
  Unpickler(std::span<const std::byte> bytes, std::string_view file, const CheckpointLimits& limits)
      : reader_(bytes, {.file = file, .part = kPart}), file_(file), limits_(limits) {}

  std::vector<PickledTensor> Read() {
    if (reader_.U8() != kProto || reader_.U8() != 2) {
      RefuseHere(
          "the pickle is not of protocol 2; save it again with torch.save's default protocol");
    }
    for (;;) {
      at_ = reader_.position();
      const uint8_t op = reader_.U8();
      if (op == kStop) break;
      Step(op);
    }
    const Value top = Pop();
    if (!stack_.empty() || !marks_.empty()) RefuseHere("the pickle ends with values left over");
    if (reader_.remaining() != 0) {
      RefuseHere(reader_.remaining(), " bytes follow the end of the pickle");
    }
    return StateDict(top);
  }

 private:
  template <typename... Parts>
  [[noreturn]] void RefuseHere(const Parts&... parts) const {
    Refuse({.file = file_, .part = kPart, .offset = at_}, parts...);
  }

  // Stack, marks, memo ---------------------------------------------------------------------------

  void Push(const Value& value) {
    if (static_cast<int64_t>(stack_.size()) >= limits_.max_pickle_stack) {
      RefuseHere("more than ", limits_.max_pickle_stack, " values on the pickle's stack");
    }
    stack_.push_back(value);
  }

  Value Pop() {
    if (stack_.size() <= Floor()) RefuseHere("the pickle takes a value from an empty stack");
    const Value value = stack_.back();
    stack_.pop_back();
    return value;
  }

  Value Pop(Kind kind, const char* what) {
    const Value value = Pop();
    RequireKind(value, kind, what);
    return value;
  }

  void RequireKind(const Value& value, Kind kind, const char* what) const {
    if (value.kind != kind) {
      RefuseHere(what, " is ", Word(value.kind), "; expected ", Word(kind));
    }
  }

  // Values below the last mark are out of reach.
  size_t Floor() const { return marks_.empty() ? 0 : marks_.back(); }

  void Mark() {
    if (static_cast<int64_t>(marks_.size()) >= limits_.max_pickle_stack) {
      RefuseHere("more than ", limits_.max_pickle_stack, " marks on the pickle's stack");
    }
    marks_.push_back(stack_.size());
  }

  // Removes the last mark; the values above it start at the returned place.
  size_t PopMark() {
    if (marks_.empty()) RefuseHere("the pickle looks for a mark that was not set");
    const size_t floor = marks_.back();
    marks_.pop_back();
    return floor;
  }

  void Count(int64_t values) {
    values_ += values;
    if (values_ > limits_.max_pickle_values) {
      RefuseHere("the pickle makes more than ", limits_.max_pickle_values, " values");
    }
  }

  void Put(uint32_t index) {
    if (stack_.size() <= Floor()) RefuseHere("the pickle remembers a value of an empty stack");
    // Picklers number their memo from 0 on, so a larger index is an attack on our memory.
    if (index > memo_.size()) {
      RefuseHere("memo index ", index, " where at most ", memo_.size(), " was expected");
    }
    if (index == memo_.size()) {
      Count(1);
      memo_.emplace_back();
    }
    memo_[index] = stack_.back();
  }

  void Get(uint32_t index) {
    if (index >= memo_.size()) RefuseHere("memo index ", index, " was never written");
    Push(memo_[index]);
  }

  // Opcodes --------------------------------------------------------------------------------------

  void Step(uint8_t op) {
    switch (op) {
      case kMark:
        return Mark();
      case kNone:
        return Push({.kind = Kind::kNone});
      case kNewTrue:
        return Push({.kind = Kind::kBool, .number = 1});
      case kNewFalse:
        return Push({.kind = Kind::kBool, .number = 0});
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
        return Put(reader_.U8());
      case kLongBinPut:
        return Put(reader_.U32());
      case kBinGet:
        return Get(reader_.U8());
      case kLongBinGet:
        return Get(reader_.U32());
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
        return PushTuple(PopMark());
      case kTuple1:
      case kTuple2:
      case kTuple3: {
        const size_t count = op - kTuple1 + 1u;
        if (stack_.size() - Floor() < count)
          RefuseHere("the pickle's stack is too short for a tuple");
        return PushTuple(stack_.size() - count);
      }
      case kEmptyList:
        return Push({.kind = Kind::kList});
      case kAppend:
        Pop();
        return RequireKind(Top(), Kind::kList, "the target of an append");
      case kAppends:
        stack_.resize(PopMark());
        return RequireKind(Top(), Kind::kList, "the target of an append");
      case kEmptyDict:
        return PushDict();
      case kSetItem:
        if (stack_.size() - Floor() < 3) RefuseHere("the pickle's stack is too short for an item");
        return SetItems(stack_.size() - 2);
      case kSetItems:
        return SetItems(PopMark());
      default:
        RefuseHere(
            "the opcode ", static_cast<int>(op),
            " does not occur in weight files as torch.save writes them; nothing was executed");
    }
  }

  const Value& Top() const {
    if (stack_.size() <= Floor()) RefuseHere("the pickle changes a value of an empty stack");
    return stack_.back();
  }

  void PushInt(int64_t value) { Push({.kind = Kind::kInt, .number = value}); }

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
    if (!IsUtf8(text)) RefuseHere("a text that is not UTF-8: ", Quoted(text));
    Push({.kind = Kind::kText, .text = text});
  }

  void PushTuple(size_t begin) {
    const size_t count = stack_.size() - begin;
    Count(static_cast<int64_t>(count));
    const auto first = static_cast<int64_t>(items_.size());
    items_.insert(items_.end(), stack_.begin() + static_cast<int64_t>(begin), stack_.end());
    stack_.resize(begin);
    Push({.kind = Kind::kTuple, .number = first, .size = static_cast<int64_t>(count)});
  }

  void PushDict() {
    Count(1);
    dicts_.emplace_back();
    Push({.kind = Kind::kDict, .number = static_cast<int64_t>(dicts_.size()) - 1});
  }

  // The pairs from `begin` to the top of the stack go into the dict below them.
  void SetItems(size_t begin) {
    const size_t count = stack_.size() - begin;
    if (count % 2 != 0 || begin <= Floor()) RefuseHere("an item of a dict lacks its key or value");
    const Value target = stack_[begin - 1];
    RequireKind(target, Kind::kDict, "the target of an item");
    Count(static_cast<int64_t>(count));
    Dict& dict = dicts_[static_cast<size_t>(target.number)];
    for (size_t i = begin; i < stack_.size(); i += 2) {
      RequireKind(stack_[i], Kind::kText, "a key of a dict");
      dict.emplace_back(stack_[i].text, stack_[i + 1]);
    }
    stack_.resize(begin);
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
    Count(1);
    Push({.kind = Kind::kGlobal, .number = static_cast<int64_t>(globals_.size()) - 1});
  }

  const KnownGlobal& GlobalOf(const Value& value) const {
    return globals_[static_cast<size_t>(value.number)];
  }

  std::span<const Value> ItemsOf(const Value& tuple) const {
    return std::span(items_).subspan(static_cast<size_t>(tuple.number),
                                     static_cast<size_t>(tuple.size));
  }

  void Reduce() {
    const Value arguments = Pop(Kind::kTuple, "the argument list");
    const Value callee = Pop(Kind::kGlobal, "the callee");
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
    Pop(Kind::kDict, "the state of an object");
    RequireKind(Top(), Kind::kDict, "an object with state");
  }

  // ("storage", class, key, device, elements)
  void PersistentId() {
    const Value id = Pop(Kind::kTuple, "a persistent id");
    const std::span<const Value> items = ItemsOf(id);
    if (items.size() != 5) RefuseHere("a persistent id of ", items.size(), " items; expected 5");
    RequireKind(items[0], Kind::kText, "the type of a persistent id");
    RequireKind(items[1], Kind::kGlobal, "the class of a storage");
    RequireKind(items[2], Kind::kText, "the key of a storage");
    RequireKind(items[3], Kind::kText, "the device of a storage");
    RequireKind(items[4], Kind::kInt, "the size of a storage");
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
    Count(1);
    storages_.push_back({.dtype = known.dtype, .key = key, .elements = items[4].number});
    Push({.kind = Kind::kStorage, .number = static_cast<int64_t>(storages_.size()) - 1});
  }

  // (storage, offset, size, stride, requires_grad, backward_hooks[, metadata])
  void RebuildTensor(std::span<const Value> items) {
    if (items.size() != 6 && items.size() != 7) {
      RefuseHere("a tensor of ", items.size(), " arguments; expected 6 or 7");
    }
    RequireKind(items[0], Kind::kStorage, "the storage of a tensor");
    RequireKind(items[1], Kind::kInt, "the offset of a tensor");
    RequireKind(items[4], Kind::kBool, "requires_grad of a tensor");
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
    Push({.kind = Kind::kTensor, .number = static_cast<int64_t>(tensors_.size()) - 1});
  }

  // (tensor, requires_grad, backward_hooks)
  void RebuildParameter(std::span<const Value> items) {
    if (items.size() != 3) RefuseHere("a parameter of ", items.size(), " arguments; expected 3");
    RequireKind(items[0], Kind::kTensor, "the data of a parameter");
    RequireKind(items[1], Kind::kBool, "requires_grad of a parameter");
    RequireEmptyDict(items[2], "the hooks of a parameter");
    Push(Value(items[0]));
  }

  void RequireEmptyDict(const Value& value, const char* what) const {
    RequireKind(value, Kind::kDict, what);
    if (!dicts_[static_cast<size_t>(value.number)].empty()) {
      RefuseHere(what, " are not empty; only plain tensors are accepted");
    }
  }

  std::vector<int64_t> Sizes(const Value& tuple, const char* what) const {
    RequireKind(tuple, Kind::kTuple, what);
    if (tuple.size > kMaxRank) RefuseHere(what, " has ", tuple.size, " dimensions");
    std::vector<int64_t> sizes;
    for (const Value& item : ItemsOf(tuple)) {
      RequireKind(item, Kind::kInt, what);
      if (item.number < 0) RefuseHere(what, " holds the negative number ", item.number);
      sizes.push_back(item.number);
    }
    return sizes;
  }

  // The result ------------------------------------------------------------------------------------

  std::vector<PickledTensor> StateDict(const Value& top) const {
    RequireKind(top, Kind::kDict, "the object of the file");
    const Dict& dict = dicts_[static_cast<size_t>(top.number)];
    // A tensor may stand under several names, so the names are counted too.
    if (static_cast<int64_t>(dict.size()) > limits_.max_tensors) {
      RefuseHere("more than ", limits_.max_tensors, " tensors");
    }
    std::vector<PickledTensor> state;
    std::set<std::string_view> seen;
    state.reserve(dict.size());
    for (const auto& [name, value] : dict) {
      RequireTensorName(name, {.file = file_, .part = kPart});
      const Place place{.file = file_, .tensor = name, .part = kPart};
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
  int64_t at_ = 0;  // of the current opcode
  int64_t values_ = 0;
  std::vector<Value> stack_;
  std::vector<size_t> marks_;
  std::vector<Value> memo_;
  std::vector<Value> items_;  // of all tuples
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
    Refuse({.file = file, .part = kPart}, "a pickle of ", size, " bytes; at most ",
           limits.max_pickle_bytes, " are accepted");
  }
  return Unpickler(bytes, file, limits).Read();
}

}  // namespace xcomposer
