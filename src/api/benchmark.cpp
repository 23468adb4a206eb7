#include "xcomposer/benchmark.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "api/benchmark_cases.h"
#include "api/benchmark_limits.h"
#include "api/load_options.h"
#include "api/machine_cluster.h"
#include "api/random_model.h"
#include "api/rank_run.h"
#include "base/check.h"
#include "measure/cpu_use.h"
#include "measure/spread.h"
#include "xcomposer/devices.h"
#include "xcomposer/version.h"

namespace xcomposer {
namespace {

using api::BenchmarkCase;
using api::BenchmarkLimit;
using api::BenchmarkRequest;

constexpr std::chrono::milliseconds kLook{100};
constexpr double kLongEnough = 10;  // seconds of loading or of warming up, then no more of it
constexpr double kQuiet = 0.02;     // share of the processors that others may use

constexpr int64_t kMostRuns = 1000;
constexpr int64_t kMostTokens = int64_t{1} << 20;
constexpr int64_t kMostPixels = int64_t{1} << 16;

void InRange(int64_t value, int64_t low, int64_t high, const char* what) {
  Require(value >= low && value <= high, ErrorKind::kUsage, what, " is ", value, ", expected ", low,
          " to ", high);
}

void CheckOptions(const BenchmarkOptions& options) {
  InRange(options.repeat, 1, kMostRuns, "the number of runs");
  InRange(options.new_tokens, 2, kMostTokens,
          "the number of new tokens (the first is part of the prompt's time)");
  for (const int64_t tokens : options.prompt_tokens) InRange(tokens, 1, kMostTokens, "a prompt");
  for (const int64_t tokens : options.contexts) InRange(tokens, 1, kMostTokens, "a context");
  if (options.image_width != 0 || options.image_height != 0) {
    InRange(options.image_width, 1, kMostPixels, "the image width");
    InRange(options.image_height, 1, kMostPixels, "the image height");
  }
  Require(!options.engine.devices.empty(), ErrorKind::kPlan, "no device was named");
}

/// A figure while it is being measured.
struct Series {
  BenchmarkCase what;
  std::vector<double> seconds;
  std::vector<size_t> limits;                 // that apply
  std::vector<std::vector<double>> percents;  // of each of those, by run
  measure::CpuUse cpu;
};

double Percent(double share) { return 100 * share; }

std::string OneDigit(double value) { return StrCat(std::round(value * 10) / 10); }

class Benchmark {
 public:
  explicit Benchmark(const BenchmarkOptions& options) : options_(options) {
    CheckOptions(options_);
    const std::string& model = options_.engine.model;
    subject_ = options_.engine.random_weights ? api::ReadRandomSubject(model)
                                              : api::ReadPlanSubject(model, "");
    const MachineInfo machine = Machine();
    const DeviceInfo& processor = machine.devices.front();
    report_.version = Version();
    report_.commit = Commit();
    report_.host = machine.host;
    report_.processor = processor.model;
    report_.kernels = processor.instructions;
    report_.threads = options_.engine.threads > 0 ? options_.engine.threads : processor.threads;
    report_.cache_bytes = measure::LastLevelCache();
    report_.random_weights = options_.engine.random_weights;
    report_.new_tokens = options_.new_tokens;
  }

  BenchmarkReport Run() {
    CountSteps();
    whole_.Start();
    Load();
    FillStorage();
    limits_.emplace(
        report_.devices, report_.threads,
        api::NarrowProducts{.int8 = Quantised(), .bf16 = api::RoundsActivations(options_.engine)});
    const std::vector<BenchmarkRequest> requests =
        api::BenchmarkRequests(options_, subject_.config, storage_);
    std::vector<std::vector<Series>> series;
    for (const BenchmarkRequest& request : requests) series.push_back(SeriesOf(request));
    WarmUp(requests);
    for (int64_t run = 1; run <= options_.repeat; ++run) {
      for (size_t i = 0; i < requests.size(); ++i) Measure(requests[i], run, series[i]);
    }
    whole_.Stop();
    for (const std::vector<Series>& of_request : series) {
      for (const Series& figure : of_request) Report(figure);
    }
    report_.limits = limits_->Report();
    Finish();
    return std::move(report_);
  }

 private:
  bool Quantised() const {
    return IsQuantised(api::LoadedType(options_.engine, subject_.stored, true)) ||
           subject_.config.quantization;
  }

  void FillStorage() {
    const bool cpu = report_.devices.front().rfind("cpu", 0) == 0;
    const WeightType type = api::LoadedType(options_.engine, subject_.stored, cpu);
    storage_.weights = type;
    Workload workload;
    workload.int8_kv = options_.engine.kv_precision == KvPrecision::kInt8;
    storage_.kv = KvTypeOf(workload, cpu ? CpuTraits() : CudaTraits());
    if (options_.engine.prefill_chunk > 0) storage_.prefill_chunk = options_.engine.prefill_chunk;
    report_.prefill_chunk = storage_.prefill_chunk;
    report_.weights = subject_.config.quantization ? ToString(subject_.config.quantization)
                                                   : std::string(ToString(type));
    report_.kv = ToString(storage_.kv);
    report_.activations =
        cpu ? api::RoundsActivations(options_.engine) ? "bf16" : "fp32" : "16-bit";
  }

  void CountSteps() {
    const auto requests = static_cast<int64_t>(
        options_.prompt_tokens.size() + options_.contexts.size() + (options_.picture ? 1 : 0));
    progress_.total = requests * (options_.repeat + 1);
  }

  void Tell(const std::string& what) {
    progress_.what = what;
    if (options_.progress) options_.progress(progress_);
  }

  void Load() {
    Series load;
    load.what = {.name = "load", .phase = "load"};
    // Drawn weights are loaded once, and so is what several processes would have to agree on anew.
    const bool once = report_.random_weights || api::IsDistributed(options_.engine.ranks);
    const int64_t most = once ? 1 : options_.repeat;
    double total = 0;
    for (int64_t run = 0; run < most && total < kLongEnough; ++run) {
      engine_.reset();
      load.cpu.Start();
      engine_.emplace(Engine::Load(options_.engine));
      load.cpu.Stop();
      load.seconds.push_back(engine_->info().load_s);
      total += load.seconds.back();
    }
    report_.model = engine_->info();
    for (const Placement& part : report_.model.placement) report_.devices.push_back(part.device);
    load.what.work.bytes = load.what.token_work.bytes =
        static_cast<double>(report_.model.weight_bytes);
    if (!report_.random_weights) Report(load);
  }

  std::vector<Series> SeriesOf(const BenchmarkRequest& request) const {
    std::vector<Series> series;
    for (const BenchmarkCase& what : request.cases) {
      Series one;
      one.what = what;
      one.limits = api::ApplyingLimits(limits_->all(), what.token_work, report_.cache_bytes);
      one.percents.resize(one.limits.size());
      series.push_back(std::move(one));
    }
    return series;
  }

  void WarmUp(const std::vector<BenchmarkRequest>& requests) {
    const auto start = std::chrono::steady_clock::now();
    for (const BenchmarkRequest& request : requests) {
      const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
      if (passed.count() < kLongEnough) Answer(request, 0);
      ++progress_.done;
    }
  }

  void Measure(const BenchmarkRequest& request, int64_t run, std::vector<Series>& series) {
    Tell("limits");
    limits_->Refresh();
    for (Series& one : series) one.cpu.Start();
    const Result result = Answer(request, run);
    for (Series& one : series) {
      one.cpu.Stop();
      const double seconds = one.what.SecondsOf(result.timings);
      one.seconds.push_back(seconds);
      for (size_t i = 0; i < one.limits.size(); ++i) {
        one.percents[i].push_back(limits_->all()[one.limits[i]].PercentOf(one.what.work, seconds));
      }
    }
    ++progress_.done;
  }

  Result Answer(const BenchmarkRequest& request, int64_t run) {
    const RequestId id = engine_->Submit(request.Make(subject_.config, run));
    for (;;) {
      Tell(request.cases.back().name);
      std::optional<Event> event = engine_->Await(id, kLook);
      if (!event) continue;
      if (event->error) throw *event->error;
      if (!event->result) continue;
      Check(event->result->image_tokens == request.cases.back().picture_rows, "a prompt had ",
            event->result->image_tokens, " picture rows, the formula counts ",
            request.cases.back().picture_rows);
      return *std::move(event->result);
    }
  }

  void Report(const Series& series) {
    const BenchmarkCase& what = series.what;
    BenchmarkFigure figure;
    figure.name = what.name;
    figure.phase = what.phase;
    figure.rows = what.rows;
    figure.picture_rows = what.picture_rows;
    figure.context = what.context;
    figure.bytes = what.work.bytes;
    figure.operations = what.work.operations;
    figure.seconds = measure::SpreadOf(series.seconds);
    const auto rate = [&series](double amount) {
      return amount > 0 ? measure::SpreadOf(measure::RatesOf(amount, series.seconds)) : Spread{};
    };
    figure.rows_per_s = rate(static_cast<double>(what.rows));
    figure.bytes_per_s = rate(what.work.bytes);
    figure.operations_per_s = rate(what.work.operations);
    for (size_t i = 0; i < series.limits.size(); ++i) {
      figure.shares.push_back(
          {limits_->all()[series.limits[i]].name, measure::SpreadOf(series.percents[i])});
    }
    if (const auto shares = series.cpu.shares()) {
      figure.foreign_cpu = Percent(shares->foreign);
      figure.stolen_cpu = Percent(shares->stolen);
    }
    if (limits_) {
      const auto binding = api::BindingShare(figure.shares, limits_->all());
      if (binding) figure.bound = binding->limit;
      if (binding && binding->percent.median > 100) {
        report_.warnings.push_back(
            StrCat(figure.name, " reached ", OneDigit(binding->percent.median), " % of '",
                   binding->limit, "': nothing can be faster than a limit, so that the limit was ",
                   "measured too low; its figures are not to be trusted"));
      }
    }
    report_.figures.push_back(std::move(figure));
  }

  void Finish() {
    if (const auto shares = whole_.shares()) {
      report_.foreign_cpu = Percent(shares->foreign);
      report_.stolen_cpu = Percent(shares->stolen);
      if (shares->foreign > kQuiet) {
        report_.warnings.push_back(StrCat("other programs used ", OneDigit(*report_.foreign_cpu),
                                          " % of the processors meanwhile: on a quiet machine the "
                                          "figures would be better"));
      }
      if (shares->stolen > kQuiet) {
        report_.warnings.push_back(StrCat("the host of this virtual machine kept ",
                                          OneDigit(*report_.stolen_cpu),
                                          " % of the processors for itself"));
      }
    }
    if (report_.limits.empty()) {
      report_.warnings.emplace_back(
          "no limit is known for these devices: the figures stand for themselves");
    }
  }

  const BenchmarkOptions options_;
  api::PlanSubject subject_;
  measure::Storage storage_;
  BenchmarkReport report_;
  BenchmarkProgress progress_;
  measure::CpuUse whole_;
  std::optional<api::BenchmarkLimits> limits_;
  std::optional<Engine> engine_;
};

}  // namespace

BenchmarkReport RunBenchmark(const BenchmarkOptions& options) { return Benchmark(options).Run(); }

}  // namespace xcomposer
