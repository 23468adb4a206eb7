// How well the engine keeps the stages of a pipeline busy, with timed stand-in stages that sleep
// instead of computing, so that any number of them overlaps on any machine.
//
//   bench_pipeline [--step-ms N] [--svg FILE]
//
// First the bubble: m chunks of one prompt over s equal stages, against (s-1)/(m+s-1). Then the
// rate of 2 and 4 stages on devices of unequal speed, against what the planner predicts for the
// placement that it chose: each stand-in takes the time that the plan gives its stage, all of them
// scaled so that the slowest takes --step-ms.
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "bench/staged_executor.h"
#include "bench/timeline_svg.h"
#include "engine/scheduler.h"
#include "placement/planner.h"
#include "placement/worlds.h"

namespace xcomposer {
namespace {

using namespace testing;  // the stand-ins
using std::chrono::microseconds;

constexpr int64_t kRows = 16;  // of a chunk

struct Options {
  int64_t step_ms = 20;
  std::string svg;
};

Job JobOf(int64_t prompt_rows, int64_t new_tokens) {
  Job job;
  job.ids.assign(static_cast<size_t>(prompt_rows), 3);
  job.penalty_ids = {1};
  job.search.max_new_tokens = new_tokens;
  job.search.do_sample = false;
  job.search.eos_token_id = {};
  return job;
}

void RunJobs(const std::vector<microseconds>& times, int count, int64_t prompt_rows,
             int64_t new_tokens, Timeline* timeline) {
  SchedulerOptions options;
  options.rope_base = [](int64_t) { return 1e4; };
  const ExecutorLimits limits{
      .vocab = 5, .kv_blocks = 4096, .block_size = 16, .max_batch_rows = kRows};
  Scheduler scheduler(std::make_unique<StagedExecutor>(times, limits, timeline),
                      std::move(options));
  std::vector<JobId> jobs;
  for (int i = 0; i < count; ++i) jobs.push_back(scheduler.Submit(JobOf(prompt_rows, new_tokens)));
  for (const JobId job : jobs) {
    for (;;) {
      const auto event = scheduler.Await(job, std::chrono::hours(1));
      if (event && event->error) throw Error(*event->error);
      if (event && event->last()) break;
    }
  }
}

/// The part of stage-seconds, from the first begin to the last end, in which a stage did nothing.
double Bubble(const std::vector<Span>& spans, int stages) {
  double first = 1e300, last = 0, busy = 0;
  for (const Span& span : spans) {
    first = std::min(first, span.begin_s);
    last = std::max(last, span.end_s);
    busy += span.end_s - span.begin_s;
  }
  return 1 - busy / (stages * (last - first));
}

bool MeasureBubbles(const Options& options, std::vector<DrawnRun>* drawn) {
  bool good = true;
  std::printf("m chunks over s equal stages of %lld ms: share of idle time, percent\n",
              static_cast<long long>(options.step_ms));
  std::printf("%4s %4s %10s %18s %12s\n", "s", "m", "measured", "(s-1)/(m+s-1)", "difference");
  for (const int stages : {2, 3, 4}) {
    for (int chunks = 1; chunks <= 8; ++chunks) {
      const std::vector<microseconds> times(static_cast<size_t>(stages),
                                            microseconds(1000 * options.step_ms));
      Timeline timeline;
      RunJobs(times, 1, chunks * kRows, 1, &timeline);
      const double measured = 100 * Bubble(timeline.spans(), stages);
      const double ideal = 100.0 * (stages - 1) / (chunks + stages - 1);
      const bool within = std::abs(measured - ideal) <= 5;
      good = good && within;
      std::printf("%4d %4d %10.1f %18.1f %+12.1f%s\n", stages, chunks, measured, ideal,
                  measured - ideal, within ? "" : "  more than 5 points");
      if (stages == 4 && (chunks == 1 || chunks == 4 || chunks == 8)) {
        std::array<char, 128> title{};
        std::snprintf(title.data(), title.size(),
                      "%d chunk%s of a prompt over 4 stages: %.1f %% idle, ideal %.1f %%", chunks,
                      chunks == 1 ? "" : "s", measured, ideal);
        drawn->push_back({title.data(), stages, timeline.spans()});
      }
    }
  }
  return good;
}

/// The longest mean time that a stage took for a step.
double SlowestTaken(const std::vector<Span>& spans, int stages) {
  std::vector<double> taken(static_cast<size_t>(stages), 0);
  std::vector<int64_t> steps(static_cast<size_t>(stages), 0);
  for (const Span& span : spans) {
    taken[static_cast<size_t>(span.stage)] += span.end_s - span.begin_s;
    ++steps[static_cast<size_t>(span.stage)];
  }
  double slowest = 0;
  for (size_t i = 0; i < taken.size(); ++i) {
    slowest = std::max(slowest, taken[i] / static_cast<double>(steps[i]));
  }
  return slowest;
}

/// A 7B model on devices of one machine, the first of 100 GB/s and the others so many times as
/// fast.
Plan PlanFor(const std::vector<double>& speeds) {
  Cluster cluster = Alike(static_cast<int>(speeds.size()), int64_t{80} << 30);
  for (size_t i = 0; i < speeds.size(); ++i) cluster.devices[i].bandwidth = speeds[i] * 1e11;
  const ModelFootprint footprint(Shipped(Kind::kVl7b));
  const Workload workload = TextWorkload(2048, 2 * static_cast<int64_t>(speeds.size()));
  return DeviceMapPlanner::Plan(footprint, cluster, workload,
                                {.given_order = true, .use_all = true});
}

/// Answers over the planned stages.
struct Rate {
  double measured = 0;   // tokens/s
  double predicted = 0;  // by the planner
  double real = 0;       // what the times that the stand-ins really took would allow
  std::string stages;    // layers and milliseconds
  std::vector<Span> middle;
};

Rate MeasureRate(const std::vector<double>& speeds, int64_t step_ms) {
  const Plan plan = PlanFor(speeds);
  const double scale = static_cast<double>(step_ms) * 1e-3 / plan.value_s;
  Rate rate;
  std::vector<microseconds> times;
  for (const PlannedDevice& device : plan.devices) {
    const double seconds = (device.step_s + device.hop_s) * scale;
    times.emplace_back(static_cast<int64_t>(seconds * 1e6));
    std::array<char, 64> text{};
    std::snprintf(text.data(), text.size(), "%s%lld: %.1f", rate.stages.empty() ? "" : ", ",
                  static_cast<long long>(device.last_layer - device.first_layer + 1),
                  seconds * 1e3);
    rate.stages += text.data();
  }
  const int jobs = static_cast<int>(plan.workload.sequences);
  const auto stages = static_cast<int>(times.size());
  constexpr int64_t kTokens = 60;
  Timeline timeline;
  RunJobs(times, jobs, 2, kTokens, &timeline);
  const std::vector<Span> spans = timeline.spans();
  // Over the middle of the run: the last stage's steps, each of which gives several ids.
  std::vector<double> ends;
  for (const Span& span : spans) {
    if (span.stage + 1 == stages) ends.push_back(span.end_s);
  }
  const size_t a = ends.size() / 4;
  const size_t b = ends.size() * 3 / 4;
  const double per_step = static_cast<double>(jobs) * kTokens / static_cast<double>(ends.size());
  rate.measured = per_step * static_cast<double>(b - a) / (ends[b] - ends[a]);
  rate.predicted = plan.predicted.tokens_per_s / scale;
  rate.real = per_step / SlowestTaken(spans, stages);
  for (const Span& span : spans) {
    if (span.begin_s > ends[a] && span.end_s < ends[a + 12]) rate.middle.push_back(span);
  }
  return rate;
}

bool MeasureRates(const Options& options, std::vector<DrawnRun>* drawn) {
  bool good = true;
  std::printf("\nstages on unequal devices, two answers per stage in flight: tokens/s\n");
  std::printf("%-20s %-34s %10s %11s %11s %14s %11s\n", "speeds", "layers: ms", "measured",
              "predicted", "difference", "of real times", "difference");
  const std::vector<std::vector<double>> cases = {
      {1, 2}, {1, 0.4}, {1, 2, 1.4, 0.6}, {1, 0.25, 0.9, 0.6}};
  for (const std::vector<double>& speeds : cases) {
    const Rate rate = MeasureRate(speeds, options.step_ms);
    std::string name;
    for (const double speed : speeds) {
      std::array<char, 16> text{};
      std::snprintf(text.data(), text.size(), "%s%g", name.empty() ? "" : ", ", speed);
      name += text.data();
    }
    const double difference = 100 * (rate.measured / rate.predicted - 1);
    const bool within = std::abs(difference) <= 10;
    good = good && within;
    std::printf("%-20s %-34s %10.1f %11.1f %+10.1f%% %14.1f %+10.1f%%%s\n", name.c_str(),
                rate.stages.c_str(), rate.measured, rate.predicted, difference, rate.real,
                100 * (rate.measured / rate.real - 1), within ? "" : "  more than 10 %");
    if (speeds.size() == 4) {
      std::array<char, 200> title{};
      std::snprintf(title.data(), title.size(),
                    "answers over devices of speed %s: %.1f tokens/s, planned %.1f", name.c_str(),
                    rate.measured, rate.predicted);
      drawn->push_back({title.data(), 4, rate.middle});
    }
  }
  return good;
}

int Main(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (std::strcmp(argv[i], "--step-ms") == 0) options.step_ms = std::atoll(argv[i + 1]);
    if (std::strcmp(argv[i], "--svg") == 0) options.svg = argv[i + 1];
  }
  std::vector<DrawnRun> drawn;
  const bool bubbles = MeasureBubbles(options, &drawn);
  const bool rates = MeasureRates(options, &drawn);
  if (!options.svg.empty()) WriteTimelines(options.svg, drawn);
  return bubbles && rates ? 0 : 1;
}

}  // namespace
}  // namespace xcomposer

int main(int argc, char** argv) { return xcomposer::Main(argc, argv); }
