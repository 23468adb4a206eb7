#include <gtest/gtest.h>

#include "engine/sampler.h"
#include "engine/score_processors.h"
#include "kernels_cuda/kernel_test.h"
#include "kernels_cuda/sampling_reference.h"

namespace xcomposer::cuda {
namespace {

int32_t EngineSample(const SamplingOptions& how, std::vector<float> scores,
                     const std::vector<bool>& seen, double top_p, int64_t step) {
  SearchOptions options;
  options.do_sample = true;
  options.temperature = how.temperature;
  options.top_k = how.top_k;
  options.top_p = top_p;
  std::vector<int32_t> ids;
  for (size_t id = 0; id < seen.size(); ++id) {
    if (seen[id]) ids.push_back(static_cast<int32_t>(id));
  }
  PenaliseRepetition(how.repetition_penalty, ids, scores);
  return xcomposer::Draw(SamplingDistribution(options, scores),
                         UniformAt(how.seed, static_cast<uint64_t>(step)));
}

// The kernel is compared with ReferenceSample, and that with the engine here.
TEST(SamplingReference, IsTheEngines) {
  Random random(1);
  for (int round = 0; round < 400; ++round) {
    const auto vocab = static_cast<size_t>(1 + random.Below(90));
    auto scores = random.Normal<float>(vocab, 2.0f);
    std::vector<bool> seen;
    for (float& score : scores) {
      if (round % 2 == 0) score = static_cast<float>(random.Below(6)) * 0.5f;
      seen.push_back(random.Below(4) == 0);
    }
    const double top_p = std::vector<double>{1.0, 0.9, 0.5, 0.05}[static_cast<size_t>(round % 4)];
    const SamplingOptions options{
        .seed = static_cast<uint64_t>(round) << 40,
        .temperature = round % 3 == 0 ? 1.0f : 0.6f,
        .dropped_mass = static_cast<float>(1.0 - top_p),
        .repetition_penalty = round % 5 == 0 ? 1.3f : 1.0f,
        .top_k = round % 7 == 0 ? 0 : static_cast<int32_t>(random.Below(60)),
        .do_sample = 1};
    EXPECT_EQ(ReferenceSample(options, scores, seen, round),
              EngineSample(options, scores, seen, top_p, round))
        << round;
  }
}

}  // namespace
}  // namespace xcomposer::cuda
