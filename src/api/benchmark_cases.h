#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "config/model_config.h"
#include "measure/request_work.h"
#include "xcomposer/benchmark.h"

namespace xcomposer::api {

/// A figure and how a request's result gives it.
struct BenchmarkCase {
  std::string name;
  std::string phase;
  int64_t rows = 0;
  int64_t picture_rows = 0;
  int64_t context = 0;
  Work work = {};        ///< of a run
  Work token_work = {};  ///< decode: of one token on average; else as `work`

  double SecondsOf(const Timings& timings) const;
};

/// A request that is sent again and again, and what it measures.
struct BenchmarkRequest {
  int64_t prompt_tokens = 0;  ///< that are text
  int64_t new_tokens = 1;
  int64_t image_width = 0;  ///< 0: no picture
  int64_t image_height = 0;
  int64_t hd_num = 0;  ///< 0: the kind has none
  std::vector<BenchmarkCase> cases;

  /// Ids and pixels differ from run to run, so that nothing of an earlier one can be used again.
  Request Make(const ModelConfig& config, int64_t run) const;
};

/// What `options` ask for, in the order of the report.
std::vector<BenchmarkRequest> BenchmarkRequests(const BenchmarkOptions& options,
                                                const ModelConfig& config,
                                                const measure::Storage& storage);

}  // namespace xcomposer::api
