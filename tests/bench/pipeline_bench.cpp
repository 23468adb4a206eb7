// How well the engine keeps the stages of a pipeline busy, with timed stand-in stages that sleep
// instead of computing, so that any number of them overlaps on any machine.
//
//   bench_pipeline [--step-ms N] [--svg FILE]
//
// First the bubble: m chunks of one prompt over s equal stages, against (s-1)/(m+s-1). Then the
// rate of 2 and 4 unequal stages with as many answers in flight, against 1 / max(stage + hop).
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "bench/staged_executor.h"
#include "bench/timeline_svg.h"
#include "engine/scheduler.h"

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

bool MeasureRates(const Options& options, std::vector<DrawnRun>* drawn) {
  bool good = true;
  std::printf("\nunequal stages, two answers per stage in flight: tokens/s\n");
  std::printf("%-20s %10s %12s %12s %14s %12s\n", "stages (ms)", "measured", "predicted",
              "difference", "of real times", "difference");
  const auto ms = [&](double factor) {
    return microseconds(
        static_cast<int64_t>(1000.0 * factor * static_cast<double>(options.step_ms)));
  };
  const std::vector<std::vector<microseconds>> cases = {{ms(0.5), ms(1)},
                                                        {ms(1), ms(0.4)},
                                                        {ms(0.5), ms(1), ms(0.7), ms(0.3)},
                                                        {ms(1), ms(0.25), ms(0.9), ms(0.6)}};
  for (const auto& times : cases) {
    const int jobs = 2 * static_cast<int>(times.size());
    constexpr int64_t kTokens = 40;
    Timeline timeline;
    RunJobs(times, jobs, 2, kTokens, &timeline);
    std::string name;
    double slowest = 0;
    for (const microseconds time : times) {
      slowest = std::max(slowest, static_cast<double>(time.count()) * 1e-6);
      name += (name.empty() ? "" : ", ") + std::to_string(time.count() / 1000);
    }
    // Over the middle of the run: the last stage's steps, each of which gives two ids.
    std::vector<double> ends;
    for (const Span& span : timeline.spans()) {
      if (span.stage + 1 == static_cast<int>(times.size())) ends.push_back(span.end_s);
    }
    const size_t a = ends.size() / 4;
    const size_t b = ends.size() * 3 / 4;
    const double steps_per_s = static_cast<double>(b - a) / (ends[b] - ends[a]);
    const double per_step = static_cast<double>(jobs) * kTokens / static_cast<double>(ends.size());
    const double measured = steps_per_s * per_step;
    // The hop between stages of one process is a queue: microseconds, which are left out.
    const double predicted = per_step / slowest;
    const double real = per_step / SlowestTaken(timeline.spans(), static_cast<int>(times.size()));
    const double difference = 100 * (measured / predicted - 1);
    const bool within = std::abs(difference) <= 10;
    good = good && within;
    std::printf("%-20s %10.1f %12.1f %+11.1f%% %14.1f %+11.1f%%%s\n", name.c_str(), measured,
                predicted, difference, real, 100 * (measured / real - 1),
                within ? "" : "  more than 10 %");
    if (times.size() == 4) {
      std::vector<Span> some;
      for (const Span& span : timeline.spans()) {
        if (span.begin_s > ends[a] && span.end_s < ends[a + 12]) some.push_back(span);
      }
      std::array<char, 160> title{};
      std::snprintf(title.data(), title.size(),
                    "answers over stages of %s ms: %.1f tokens/s, predicted %.1f", name.c_str(),
                    measured, predicted);
      drawn->push_back({title.data(), 4, std::move(some)});
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
