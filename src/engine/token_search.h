#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/search.h"

namespace xcomposer {

/// Greedy search and sampling: one sequence, one id a step. Of equal best scores greedy search
/// takes the smallest id. Not thread-safe.
class TokenSearch : public Search {
 public:
  TokenSearch(const SearchOptions& options, std::vector<int32_t> penalty_ids, int64_t vocab);

  int64_t width() const override { return 1; }
  SearchStep Advance(std::span<const float> scores) override;
  std::optional<IdChoice> Choice() const override;
  SearchStep Accept(int32_t id) override;
  SearchOutput Output() const override;

 private:
  int32_t Choose(std::span<const float> processed) const;
  void AddSeen(int32_t id);
  int64_t new_ids() const { return static_cast<int64_t>(ids_.size()) - prompt_length_; }

  SearchOptions options_;
  int64_t vocab_;
  int64_t prompt_length_;
  std::vector<int32_t> ids_;   // penalty ids, then new ids
  std::vector<int32_t> seen_;  // the same ids, ascending, each once
  bool stopped_ = false;
};

}  // namespace xcomposer
