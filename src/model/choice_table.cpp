#include "model/choice_table.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cstring>
#include <limits>

namespace xcomposer {

ops::ChoiceRule RuleOf(const IdChoice& choice) {
  return {.seed = choice.seed,
          .temperature = choice.temperature,
          .dropped_mass = choice.dropped_mass,
          .repetition_penalty = choice.repetition_penalty,
          .top_k = static_cast<int32_t>(
              std::min<int64_t>(choice.top_k, std::numeric_limits<int32_t>::max())),
          .do_sample = choice.do_sample ? 1 : 0};
}

void MarkSeen(const IdChoice& choice, int32_t* words) {
  for (const int32_t id : choice.seen) {
    words[id / 32] = static_cast<int32_t>(static_cast<uint32_t>(words[id / 32]) | 1u << (id % 32));
  }
}

ops::ChoiceTable MakeChoiceTable(const Batch& batch, int64_t vocab, at::Device device) {
  const auto wants = [](const SequenceSlice& sequence) { return sequence.wants_logits; };
  const auto count = std::count_if(batch.sequences.begin(), batch.sequences.end(), wants);
  constexpr int64_t kRuleBytes = sizeof(ops::ChoiceRule);
  at::Tensor rules = at::empty({count, kRuleBytes}, at::kByte);      // (R, bytes)
  at::Tensor seen = at::zeros({count, SeenWords(vocab)}, at::kInt);  // (R, words)
  at::Tensor steps = at::empty({count}, at::kLong);                  // (R)
  int64_t row = 0;
  for (const SequenceSlice& sequence : batch.sequences) {
    if (!wants(sequence)) continue;
    const ops::ChoiceRule rule = RuleOf(*sequence.choice);
    std::memcpy(rules.data_ptr<uint8_t>() + row * kRuleBytes, &rule, sizeof(rule));
    MarkSeen(*sequence.choice, seen.data_ptr<int32_t>() + row * SeenWords(vocab));
    steps.data_ptr<int64_t>()[row] = static_cast<int64_t>(sequence.choice->step);
    ++row;
  }
  return {rules.to(device), seen.to(device), steps.to(device)};
}

}  // namespace xcomposer
