#include "checkpoint/pickle_stack.h"

namespace xcomposer {

const char* Word(PickleKind kind) {
  switch (kind) {
    case PickleKind::kNone:
      return "None";
    case PickleKind::kBool:
      return "a bool";
    case PickleKind::kInt:
      return "an integer";
    case PickleKind::kText:
      return "a text";
    case PickleKind::kTuple:
      return "a tuple";
    case PickleKind::kList:
      return "a list";
    case PickleKind::kDict:
      return "a dict";
    case PickleKind::kGlobal:
      return "a class or function";
    case PickleKind::kStorage:
      return "a storage";
    case PickleKind::kTensor:
      return "a tensor";
  }
  return "something unknown";
}

void PickleStack::Push(const PickleValue& value) {
  if (static_cast<int64_t>(values_.size()) >= limits_.max_pickle_stack) {
    RefuseHere("more than ", limits_.max_pickle_stack, " values on the pickle's stack");
  }
  values_.push_back(value);
}

PickleValue PickleStack::Pop() {
  if (Reachable() == 0) RefuseHere("the pickle takes a value from an empty stack");
  const PickleValue value = values_.back();
  values_.pop_back();
  return value;
}

PickleValue PickleStack::Pop(PickleKind kind, const char* what) {
  const PickleValue value = Pop();
  RequireKind(value, kind, what);
  return value;
}

const PickleValue& PickleStack::Top() const {
  if (Reachable() == 0) RefuseHere("the pickle changes a value of an empty stack");
  return values_.back();
}

void PickleStack::RequireKind(const PickleValue& value, PickleKind kind, const char* what) const {
  if (value.kind != kind) {
    RefuseHere(what, " is ", Word(value.kind), "; expected ", Word(kind));
  }
}

void PickleStack::Mark() {
  if (static_cast<int64_t>(marks_.size()) >= limits_.max_pickle_stack) {
    RefuseHere("more than ", limits_.max_pickle_stack, " marks on the pickle's stack");
  }
  marks_.push_back(values_.size());
}

size_t PickleStack::PopMark() {
  if (marks_.empty()) RefuseHere("the pickle looks for a mark that was not set");
  const size_t floor = marks_.back();
  marks_.pop_back();
  return floor;
}

PickleValue PickleStack::Below(size_t begin) const {
  if (begin <= Floor()) RefuseHere("the pickle changes a value of an empty stack");
  return values_[begin - 1];
}

void PickleStack::Put(uint32_t index) {
  if (Reachable() == 0) RefuseHere("the pickle remembers a value of an empty stack");
  // Picklers number their memo from 0 on, so a larger index is an attack on our memory.
  if (index > memo_.size()) {
    RefuseHere("memo index ", index, " where at most ", memo_.size(), " was expected");
  }
  if (index == memo_.size()) {
    Count(1);
    memo_.emplace_back();
  }
  memo_[index] = values_.back();
}

void PickleStack::Get(uint32_t index) {
  if (index >= memo_.size()) RefuseHere("memo index ", index, " was never written");
  Push(memo_[index]);
}

void PickleStack::Count(int64_t values) {
  kept_ += values;
  if (kept_ > limits_.max_pickle_values) {
    RefuseHere("the pickle makes more than ", limits_.max_pickle_values, " values");
  }
}

}  // namespace xcomposer
