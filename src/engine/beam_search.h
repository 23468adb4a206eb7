#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/search.h"

namespace xcomposer {

/// Finished answers of a beam search, the best num_beams of them.
class Hypotheses {
 public:
  struct Hypothesis {
    double score = 0;
    std::vector<int32_t> ids;  ///< penalty ids and new ids, without the stop id
    bool stopped = false;
  };

  explicit Hypotheses(const SearchOptions& options) : options_(options) {}

  /// Normalised: sum / length^length_penalty, the length being that of `ids`.
  void Add(std::vector<int32_t> ids, double sum, bool stopped);

  /// True if a continuation whose best sum is `best_sum` at `length` ids cannot win any more; that
  /// is decided as EarlyStop says, and never before num_beams have finished.
  bool Settled(double best_sum, int64_t length, int64_t max_length) const;

  /// The last added among equals, as in the reference. There must be one.
  const Hypothesis& best() const;

 private:
  SearchOptions options_;
  std::vector<Hypothesis> kept_;
  double worst_ = 1e9;
};

/// Beam search as transformers 4.33 does it (model specification 8.6): log-softmax, then the
/// processors on the log-probabilities, then the beam's running score, all in float32. Of equal
/// candidates the earlier beam, then the smaller id comes first (the reference leaves that open).
/// Not thread-safe.
class BeamSearch : public Search {
 public:
  BeamSearch(const SearchOptions& options, std::vector<int32_t> penalty_ids, int64_t vocab);

  int64_t width() const override { return started_ ? options_.num_beams : 1; }
  SearchStep Advance(std::span<const float> scores) override;
  SearchOutput Output() const override;

 private:
  struct Beam {
    std::vector<int32_t> ids;  // penalty ids, then new ids
    float sum = 0;             // of processed log-probabilities
  };
  struct Ranked {
    float sum;
    int64_t beam;
    int32_t id;
  };

  std::vector<Ranked> Rank(std::span<const float> scores) const;
  bool IsStop(int32_t id) const;
  SearchOutput Finish(const Hypotheses& hypotheses) const;

  SearchOptions options_;
  int64_t vocab_;
  int64_t prompt_length_;
  int64_t max_length_;
  std::vector<Beam> beams_;
  Hypotheses finished_;
  bool started_ = false;
  bool over_ = false;
};

}  // namespace xcomposer
