#pragma once

#include <algorithm>
#include <limits>
#include <set>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include "pipeline/golden_run.h"
#include "support/largest_difference.h"

namespace xcomposer {

/// By how much the best score is ahead of the second best, after the repetition penalty.
inline double Margin(std::span<const float> scores, const std::set<int32_t>& seen, double penalty) {
  double best = -std::numeric_limits<double>::infinity();
  double second = best;
  for (size_t id = 0; id < scores.size(); ++id) {
    double score = scores[id];
    if (seen.contains(static_cast<int32_t>(id))) {
      score = score < 0 ? score * penalty : score / penalty;
    }
    second = std::max(second, std::min(best, score));
    best = std::max(best, score);
  }
  return best - second;
}

struct ComparedIds {
  size_t rows = 0;    ///< of scores that follow equal ids in all runs: those that can be compared
  std::string fault;  ///< "" or what cannot be explained by rounding
};

/// Greedy ids of a run on CUDA against those of an exact one. Scores may err by `budget`, twice the
/// error of the plain computation that rounds where CUDA stores; two scores can change places only
/// where the exact margin is at most twice that. There another id is no fault, and what follows is
/// not compared; nor is what follows where the plain computation itself took another id.
inline ComparedIds CompareIds(const GoldenCase& golden, const GoldenRun& exact,
                              const GoldenRun& rounded, const GoldenRun& cuda) {
  ComparedIds compared;
  const size_t steps = exact.ids.size();
  if (rounded.ids.size() != steps || cuda.ids.size() != steps || steps == 0) {
    compared.fault = steps == 0 ? "" : "runs of different lengths";
    return compared;
  }
  const size_t vocab = exact.logits.size() / steps;
  std::set<int32_t> seen(golden.penalty_ids.begin(), golden.penalty_ids.end());
  const double stretch = std::max(golden.repetition_penalty, 1 / golden.repetition_penalty);
  for (size_t step = 0; step < steps; ++step) {
    const auto row = [&](const GoldenRun& run) {
      return std::span(run.logits).subspan(step * vocab, vocab);
    };
    compared.rows = step + 1;
    const double budget = 2 * stretch * LargestDifference(row(rounded), row(exact));
    const double margin = Margin(row(exact), seen, golden.repetition_penalty);
    // Not (margin > 2 * budget), which a NaN would pass.
    if (cuda.ids[step] != exact.ids[step] && !(margin <= 2 * budget)) {
      std::ostringstream fault;
      fault << "id " << step << " is " << cuda.ids[step] << ", expected " << exact.ids[step]
            << ": the margin is " << margin << ", scores may err by " << budget;
      compared.fault = fault.str();
    }
    if (cuda.ids[step] != exact.ids[step] || rounded.ids[step] != exact.ids[step]) break;
    seen.insert(exact.ids[step]);
  }
  return compared;
}

}  // namespace xcomposer
