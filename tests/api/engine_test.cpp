// The engine behind the public headers, over the small checkpoint of the project. Requests are ids
// and pixels, so that the tests hold for a build without tokenizer and picture decoders too.
#include "xcomposer/engine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

#include "api/demo_model.h"

namespace xcomposer {
namespace {

using namespace std::chrono_literals;
using testing_support::ExpectError;
using testing_support::Gradient;
using testing_support::IdRequest;
using testing_support::kDemo;
using testing_support::LoadDemo;

TEST(Engine, SaysWhatWasLoaded) {
  const Engine engine = LoadDemo();
  EXPECT_EQ(engine.info().kind, "2-vl-7b");
  EXPECT_GT(engine.info().parameters, 0);
  EXPECT_EQ(engine.info().placement.size(), 1u);
  EXPECT_TRUE(engine.info().has_tokenizer);
}

TEST(Engine, LoadingReportsProgressToTheEnd) {
  EngineOptions options;
  options.model = testing_support::kDemo;
  std::vector<LoadProgress> steps;
  options.progress = [&steps](const LoadProgress& step) { steps.push_back(step); };
  Engine::Load(options);
  ASSERT_FALSE(steps.empty());
  EXPECT_EQ(steps.back().bytes_done, steps.back().bytes_total);
  for (size_t i = 1; i < steps.size(); ++i) EXPECT_GE(steps[i].bytes_done, steps[i - 1].bytes_done);
}

// Cool enough that the pictures decide: a request that saw another's rows would answer otherwise.
Request RequestAboutItsPicture(uint8_t shift) {
  Request request = IdRequest(12, shift);
  request.generation.temperature = 3.0;
  return request;
}

TEST(Engine, RequestsAtOnceAnswerAsAlone) {
  Engine engine = LoadDemo();
  std::vector<std::vector<int32_t>> alone;
  for (uint8_t shift : {0, 50, 100}) {
    alone.push_back(engine.Generate(RequestAboutItsPicture(shift)).output_ids);
    EXPECT_EQ(alone.back().size(), 12u);
  }
  EXPECT_NE(alone[0], alone[1]);
  EXPECT_NE(alone[1], alone[2]);
  std::vector<RequestId> ids;
  for (uint8_t shift : {0, 50, 100}) ids.push_back(engine.Submit(RequestAboutItsPicture(shift)));
  for (size_t i = 0; i < ids.size(); ++i) EXPECT_EQ(engine.Wait(ids[i]).output_ids, alone[i]);
}

TEST(Engine, StagesOnOneDeviceGiveTheSameIds) {
  Engine one = LoadDemo();
  Engine two = LoadDemo({"cpu", "cpu"});
  EXPECT_EQ(two.info().placement.size(), 2u);
  EXPECT_EQ(one.Generate(IdRequest(8)).output_ids, two.Generate(IdRequest(8)).output_ids);
}

TEST(Engine, EventsJoinToTheResultAndThenTheIdIsForgotten) {
  Engine engine = LoadDemo();
  const RequestId id = engine.Submit(IdRequest(10));
  std::string text;
  for (;;) {
    const std::optional<Event> event = engine.Await(id, 60s);
    ASSERT_TRUE(event.has_value());
    EXPECT_EQ(event->id, id);
    if (event->type == Event::Type::kText) {
      EXPECT_FALSE(event->text.empty());
      text += event->text;
      continue;
    }
    ASSERT_EQ(event->type, Event::Type::kDone);
    EXPECT_EQ(event->result->text, text);
    break;
  }
  ExpectError(ErrorKind::kUsage, "", [&] { engine.Await(id, 1ms); });
}

TEST(Engine, ThePromptsProgressIsToldWhereAsked) {
  EngineOptions options;
  options.model = kDemo;
  options.prefill_chunk = 64;
  Engine engine = Engine::Load(options);
  Request request = IdRequest(3);
  request.token_ids->insert(request.token_ids->end(), 200, 40);
  int told = 0;
  const auto count = [&told](const PromptProgress&) { ++told; };
  const Result plain = engine.Wait(engine.Submit(request), {}, count);
  EXPECT_EQ(told, 0);

  request.reports_progress = true;
  const RequestId id = engine.Submit(request);
  std::vector<int64_t> rows;
  bool answering = false;
  for (;;) {
    const std::optional<Event> event = engine.Await(id, 60s);
    ASSERT_TRUE(event.has_value());
    if (event->result) break;
    EXPECT_EQ(event->progress.has_value(), event->type == Event::Type::kProgress);
    answering = answering || !event->progress;
    if (!event->progress) continue;
    EXPECT_FALSE(answering);
    EXPECT_EQ(event->progress->rows_total, plain.prompt_tokens);
    rows.push_back(event->progress->rows_done);
  }
  ASSERT_GE(rows.size(), 4u);
  EXPECT_TRUE(std::is_sorted(rows.begin(), rows.end()));
  EXPECT_EQ(rows.front(), 0);
  EXPECT_EQ(rows.back(), plain.prompt_tokens);

  std::string text;
  const Result waited = engine.Wait(
      engine.Submit(request), [&text](const std::string& piece) { text += piece; }, count);
  EXPECT_EQ(told, static_cast<int>(rows.size()));
  EXPECT_EQ(text, waited.text);
  EXPECT_EQ(waited.output_ids, plain.output_ids);
}

TEST(Engine, TheLongestTimeoutMeansForEver) {
  Engine engine = LoadDemo();
  const RequestId id = engine.Submit(IdRequest(4));
  EXPECT_TRUE(engine.Await(id, std::chrono::milliseconds::max()).has_value());
}

TEST(Engine, ACallbackGetsEveryEvent) {
  Engine engine = LoadDemo();
  std::promise<Result> done;
  std::string text;
  Request request = IdRequest(6);
  request.id = "with a callback";
  engine.Submit(request, [&](const Event& event) {
    text += event.text;
    if (event.result) done.set_value(*event.result);
  });
  const Result result = done.get_future().get();
  EXPECT_EQ(result.id, "with a callback");
  EXPECT_EQ(result.text, text);
}

TEST(Engine, TimesAddUp) {
  using Clock = std::chrono::steady_clock;
  const auto seconds = [](Clock::duration time) {
    return std::chrono::duration<double>(time).count() + 1e-9;
  };
  const Clock::time_point begin = Clock::now();
  Engine engine = LoadDemo();
  const Clock::time_point loaded = Clock::now();
  const Timings times = engine.Generate(IdRequest(10)).timings;
  const Clock::time_point end = Clock::now();
  EXPECT_GT(times.load_s, 0);
  EXPECT_LE(times.load_s, seconds(loaded - begin));
  EXPECT_LE(times.load.device_s + times.load.weights_s + times.load.warm_up_s, times.load_s + 1e-9);
  EXPECT_EQ(times.load.weight_bytes, engine.info().load.weight_bytes);
  EXPECT_GT(times.image_s, 0);
  EXPECT_GT(times.prefill_s, 0);
  EXPECT_GT(times.decode_s, 0);
  EXPECT_LE(times.image_s + times.prefill_s + times.decode_s, seconds(end - loaded));
  EXPECT_DOUBLE_EQ(times.tokens_per_s * times.decode_s, 9);
  EXPECT_GT(times.step_s, 0);
  EXPECT_LE(5 * times.step_s, times.decode_s);  // five of the nine took no less
}

TEST(Engine, CancelEndsARequestWithWhatItHas) {
  Engine engine = LoadDemo();
  const RequestId id = engine.Submit(IdRequest(4000));
  while (engine.Await(id, 60s)->type != Event::Type::kText) {
  }
  engine.Cancel(id);
  const Result result = engine.Wait(id);
  EXPECT_EQ(result.finish_reason, FinishReason::kCancelled);
  EXPECT_GT(result.output_ids.size(), 0u);
  EXPECT_LT(result.output_ids.size(), 4000u);
  engine.Cancel(id);
  engine.Cancel(987654);
}

TEST(Engine, AForgottenRequestHasNoMoreEvents) {
  std::atomic<int> events{0};
  {
    Engine engine = LoadDemo();
    const RequestId endless = engine.Submit(IdRequest(4000));
    const RequestId over = engine.Submit(IdRequest(1));
    while (engine.Await(endless, 60s)->type != Event::Type::kText) {
    }
    engine.Forget(endless);
    ExpectError(ErrorKind::kUsage, "", [&] { engine.Await(endless, 1ms); });
    engine.Forget(over);
    engine.Forget(over);
    engine.Forget(987654);
    ExpectError(ErrorKind::kUsage, "", [&] { engine.Await(over, 1ms); });

    // Nor does a callback hear of it again, not even when the engine goes. (That the request ends
    // is for tests of the scheduler.)
    std::promise<void> first;
    const RequestId called = engine.Submit(IdRequest(4000), [&](const Event& event) {
      if (++events > 1 || event.type != Event::Type::kText) return;
      engine.Forget(event.id);
      first.set_value();
    });
    first.get_future().get();
    EXPECT_EQ(engine.Generate(IdRequest(3)).output_ids.size(), 3u);
    engine.Forget(called);
  }
  EXPECT_EQ(events, 1);
}

TEST(Engine, ACallbackCannotWaitForARequest) {
  Engine engine = LoadDemo();
  std::promise<std::vector<ErrorKind>> kinds;
  std::atomic<bool> asked{false};
  engine.Submit(IdRequest(2), [&](const Event&) {
    if (asked.exchange(true)) return;
    std::vector<ErrorKind> thrown;
    const auto expect = [&](const auto& call) {
      try {
        call();
      } catch (const Error& error) {
        thrown.push_back(error.kind());
      }
    };
    expect([&] { engine.Generate(IdRequest(4000)); });
    expect([&] { engine.Trace(IdRequest(4000), {}, [](TraceTensor&&) {}); });
    kinds.set_value(thrown);
  });
  EXPECT_EQ(kinds.get_future().get(), std::vector<ErrorKind>(2, ErrorKind::kUsage));
  // Neither was submitted: the next id follows the first one's.
  EXPECT_EQ(engine.Submit(IdRequest(1)), 2u);
}

TEST(Engine, AnErrorThrownByProgressIsWhatLoadThrows) {
  EngineOptions options;
  options.model = testing_support::kDemo;
  options.progress = [](const LoadProgress&) { throw Error(ErrorKind::kCancelled, "enough"); };
  ExpectError(ErrorKind::kCancelled, "enough", [&] { Engine::Load(options); });
}

TEST(Engine, ThreadsBeyondReasonAreRefused) {
  EngineOptions options;
  options.model = testing_support::kDemo;
  for (const int threads : {-1, 4097, 1 << 30}) {
    options.threads = threads;
    ExpectError(ErrorKind::kUsage, "4096", [&] { Engine::Load(options); });
    ExpectError(ErrorKind::kUsage, "4096", [&] {
      QuantizeOptions quantize;
      quantize.threads = threads;
      Quantize(testing_support::kDemo, ::testing::TempDir() + "never", quantize);
    });
  }
}

TEST(Engine, ADeadlineEndsARequest) {
  Engine engine = LoadDemo();
  Request request = IdRequest(4000);
  request.deadline_s = 0.05;
  EXPECT_EQ(engine.Generate(request).finish_reason, FinishReason::kDeadline);
}

TEST(Engine, AnExceptionOfTheCallersCallbackEndsOnlyThatRequest) {
  Engine engine = LoadDemo();
  EXPECT_THROW(engine.Generate(IdRequest(4000), [](const std::string&) { throw 1; }), int);
  EXPECT_EQ(engine.Generate(IdRequest(3)).output_ids.size(), 3u);
}

/// The last events of `count` requests, one of which ends its engine from its callback.
class EndedByCallback {
 public:
  void Run(int count, const std::function<void(std::unique_ptr<Engine>&)>& end) {
    auto engine = std::make_unique<Engine>(LoadDemo());
    Engine& alive = *engine;  // the callback may have taken it by the time of the later requests
    const auto held = std::make_shared<int>(0);
    std::mutex submitting;
    std::unique_lock lock(submitting);
    for (int i = 0; i < count; ++i) {
      alive.Submit(IdRequest(400), [&, held, i](const Event& event) {
        const std::lock_guard wait(submitting);  // until all are there
        if (event.type == Event::Type::kText && i == 0 && engine != nullptr) end(engine);
        if (event.error) last_.push_back(event.error->kind());
      });
    }
    const std::weak_ptr<int> freed = held;
    lock.unlock();
    const auto until = std::chrono::steady_clock::now() + 60s;
    // One owner is left: this function.
    while (freed.use_count() > 1 && std::chrono::steady_clock::now() < until) {
      std::this_thread::sleep_for(5ms);
    }
    is_freed_ = freed.use_count() == 1;
  }

  std::vector<ErrorKind> last_;
  bool is_freed_ = false;
};

TEST(Engine, ACallbackMayDestroyItsEngine) {
  EndedByCallback run;
  run.Run(3, [](std::unique_ptr<Engine>& engine) { engine.reset(); });
  EXPECT_EQ(run.last_, std::vector<ErrorKind>(3, ErrorKind::kCancelled));
  EXPECT_TRUE(run.is_freed_);
}

TEST(Engine, ACallbackMayReplaceItsEngine) {
  EndedByCallback run;
  run.Run(2, [done = false](std::unique_ptr<Engine>& engine) mutable {
    if (std::exchange(done, true)) return;
    *engine = LoadDemo();
    const std::unique_ptr<Engine> next = std::move(engine);
    EXPECT_EQ(next->info().kind, "2-vl-7b");
    // It is another engine, whose own thread is not this one: it is waited for here.
  });
  EXPECT_EQ(run.last_, std::vector<ErrorKind>(2, ErrorKind::kCancelled));
  EXPECT_TRUE(run.is_freed_);
}

TEST(Engine, TheSeedMakesSamplingReproducibleAndIsReturned) {
  Engine engine = LoadDemo();
  Request request = IdRequest(20);
  request.generation.seed.reset();
  const Result drawn = engine.Generate(request);
  request.generation.seed = drawn.seed;
  EXPECT_EQ(engine.Generate(request).output_ids, drawn.output_ids);
  request.generation.seed = drawn.seed + 1;
  EXPECT_NE(engine.Generate(request).output_ids, drawn.output_ids);
}

TEST(Engine, WhatCannotFitIsRefusedWithNumbers) {
  EngineOptions options;
  options.model = testing_support::kDemo;
  options.kv_tokens = 256;
  Engine engine = Engine::Load(options);
  ExpectError(ErrorKind::kCapacity, "the cache has 8", [&] { engine.Generate(IdRequest(4000)); });
  EXPECT_EQ(engine.Generate(IdRequest(2)).output_ids.size(), 2u);
}

TEST(Engine, PicturesBehindTheCutOfAPromptAreNotEncoded) {
  Engine engine = LoadDemo();
  Request request;
  request.query = "<ImageHere>";
  for (int i = 0; i < 1600; ++i) request.query += "a word ";
  request.query += "<ImageHere>";
  request.images = {Gradient(), Gradient(7)};
  request.generation.max_new_tokens = 1;
  std::set<std::string> names;
  Result result;
  try {
    result = engine.Trace(request, {.taps = {"image0.rgb", "image1.rgb"}},
                          [&names](TraceTensor&& tensor) { names.insert(tensor.name); });
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::kTokenizer) GTEST_SKIP() << error.what();
    throw;
  }
  EXPECT_GT(result.prompt_truncated, 0);
  EXPECT_EQ(names, std::set<std::string>{"image0.rgb"});
}

TEST(Engine, TraceNamesTensorsAndKeepsTheWantedOnes) {
  Engine engine = LoadDemo();
  std::map<std::string, TraceTensor> tensors;
  TraceOptions options;
  options.taps = {"logits", "image0.embeds", "im_mask"};
  const Result result = engine.Trace(IdRequest(3), options, [&tensors](TraceTensor&& tensor) {
    tensors[tensor.name] = std::move(tensor);
  });
  ASSERT_EQ(tensors.size(), 3u);
  EXPECT_EQ(tensors["logits"].shape, (std::vector<int64_t>{3, engine.info().vocab}));
  EXPECT_EQ(tensors["im_mask"].shape, (std::vector<int64_t>{result.prompt_tokens}));
  EXPECT_EQ(tensors["image0.embeds"].shape,
            (std::vector<int64_t>{result.image_tokens, engine.info().hidden}));
  int64_t picture_rows = 0;
  for (const uint8_t bit : tensors["im_mask"].bytes) picture_rows += bit;
  EXPECT_EQ(picture_rows, result.image_tokens);
}

TEST(Engine, ATraceIsStoppedWhereAsked) {
  Engine engine = LoadDemo();
  TraceOptions options;
  options.taps = {"im_mask"};
  std::atomic<int> asked{0};
  options.stop = [&asked] { return ++asked > 2; };
  const auto trace = [&] { return engine.Trace(IdRequest(4000), options, [](TraceTensor&&) {}); };
  EXPECT_EQ(trace().finish_reason, FinishReason::kCancelled);
  EXPECT_EQ(asked, 3);
  // What it throws is thrown when nothing of the request runs any more.
  options.stop = []() -> bool { throw Error(ErrorKind::kInternal, "thrown by stop"); };
  ExpectError(ErrorKind::kInternal, "thrown by stop", trace);
  options.stop = [] { return false; };
  const Result whole = engine.Trace(IdRequest(3), options, [](TraceTensor&&) {});
  EXPECT_EQ(whole.finish_reason, FinishReason::kLength);
}

TEST(Engine, ThePictureMatters) {
  Engine engine = LoadDemo();
  TraceOptions options;
  options.forward_only = true;
  options.taps = {"prefill_logits"};
  std::vector<std::vector<float>> scores;
  for (const uint8_t shift : {0, 0, 100}) {
    engine.Trace(IdRequest(1, shift), options,
                 [&scores](TraceTensor&& tensor) { scores.push_back(std::move(tensor.values)); });
  }
  ASSERT_EQ(scores.size(), 3u);
  EXPECT_EQ(scores[0], scores[1]);
  EXPECT_NE(scores[0], scores[2]);
}

TEST(Engine, LoadingSaysWhatIsWrong) {
  EngineOptions options;
  options.model = "/no/such/folder";
  ExpectError(ErrorKind::kCheckpoint, "/no/such/folder", [&] { Engine::Load(options); });
  options.model = testing_support::kDemo;
  options.devices = {"tpu:0"};
  ExpectError(ErrorKind::kDevice, "tpu:0", [&] { Engine::Load(options); });
  options.devices = {"cpu"};
  options.device_map = "/no/such/map.json";
  ExpectError(ErrorKind::kPlan, "/no/such/map.json", [&] { Engine::Load(options); });
  options.device_map = "auto";
  options.threads = -1;
  ExpectError(ErrorKind::kUsage, "threads", [&] { Engine::Load(options); });
}

TEST(Engine, PicturesBeyondTheCallersLimitAreRefused) {
  EngineOptions options;
  options.model = kDemo;
  options.max_image_pixels = 40 * 30;
  EXPECT_NO_THROW(Engine::Load(options).Generate(IdRequest(1)));
  options.max_image_pixels = 100;
  Engine engine = Engine::Load(options);
  ExpectError(ErrorKind::kImage, "at most 100 pixels", [&] { engine.Submit(IdRequest(1)); });
}

TEST(Engine, BrokenPicturesAndWrongPixelsAreImageErrors) {
  Engine engine = LoadDemo();
  Request request = IdRequest(2);
  ImagePixels pixels = Gradient();
  pixels.rgb.pop_back();
  request.images = {pixels};
  ExpectError(ErrorKind::kImage, "", [&] { engine.Submit(request); });
  pixels.width = int64_t{1} << 40;
  pixels.height = int64_t{1} << 40;
  request.images = {pixels};
  ExpectError(ErrorKind::kImage, "pixels", [&] { engine.Submit(request); });
  request.images = {ImageBytes{{1, 2, 3}, "three bytes"}};
  ExpectError(ErrorKind::kImage, "three bytes", [&] { engine.Submit(request); });
}

}  // namespace
}  // namespace xcomposer
