#include "api/prepare.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <utility>

#include "api/demo_model.h"
#include "support/few_threads.h"

namespace xcomposer::api {
namespace {

using testing_support::ExpectError;
using testing_support::IdRequest;

// Just enough of a model to prepare requests by ids.
RequestContext Context(Kind kind) {
  RequestContext context;
  context.config.kind = kind;
  context.config.vocab_size = 100;
  context.config.bos_id = 1;
  context.config.eos_id = 2;
  context.config.max_length = 4096;
  context.config.vision.tile = kind == Kind::k25_7b ? 560 : 28;
  context.config.vision.patch = 14;
  context.config.vision.hidden_size = 64;
  context.defaults = ChatDefaults(kind);
  return context;
}

TEST(Prepare, FillsInTheKindsDefaults) {
  Request request;
  request.token_ids = {1, 5, 6};
  const Job job = Prepare(request, Context(Kind::kVl7b)).job;
  EXPECT_EQ(job.search.max_new_tokens, 1024);
  EXPECT_TRUE(job.search.do_sample);
  EXPECT_DOUBLE_EQ(job.search.top_p, 0.8);
  EXPECT_EQ(job.search.top_k, 50);
  EXPECT_DOUBLE_EQ(job.search.repetition_penalty, 1.005);
  EXPECT_EQ(job.search.eos_token_id, std::vector<int32_t>{2});
  EXPECT_EQ(job.ids, (std::vector<int32_t>{1, 5, 6}));
}

TEST(Prepare, BeamsAloneMeanBeamSearch) {
  Request request;
  request.token_ids = {1, 5};
  request.generation.num_beams = 3;
  EXPECT_FALSE(Prepare(request, Context(Kind::kVl7b)).job.search.do_sample);
  request.generation.do_sample = true;
  ExpectError(ErrorKind::kRequest, "do_sample", [&] { Prepare(request, Context(Kind::kVl7b)); });
}

TEST(Prepare, APicturesRowsTakeItsPlace) {
  const Job job = Prepare(IdRequest(4), Context(Kind::kVl7b)).job;  // 28 px: 2 x 2 patches
  EXPECT_EQ(job.ids, (std::vector<int32_t>{1, -1, -1, -1, -1, 40, 41, 42}));
  ASSERT_EQ(job.spans.size(), 1u);
  EXPECT_EQ(job.spans[0].first_row, 1);
  EXPECT_EQ(job.spans[0].row_count, 4);
  ASSERT_EQ(job.pictures.size(), 1u);
  EXPECT_EQ(job.pictures[0]->width, 28);
}

TEST(Prepare, TheCacheIsOffOnTheTextPathOnly) {
  Request text;
  text.token_ids = {1, 5};
  EXPECT_TRUE(Prepare(text, Context(Kind::kVl7b)).job.text_path);
  text.generation.use_cache = true;
  EXPECT_FALSE(Prepare(text, Context(Kind::kVl7b)).job.text_path);
  text.generation.use_cache = false;
  EXPECT_FALSE(Prepare(text, Context(Kind::k25_7b)).job.text_path);
  EXPECT_EQ(Prepare(text, Context(Kind::k25_7b)).job.penalty_ids, std::vector<int32_t>{1});
  text.images.emplace();
  EXPECT_FALSE(Prepare(text, Context(Kind::k25_7b)).job.text_path);
  EXPECT_TRUE(Prepare(text, Context(Kind::kVl7b)).job.text_path);
  text.images.reset();
  text.text_path = true;
  EXPECT_TRUE(Prepare(text, Context(Kind::k25_7b)).job.text_path);
  EXPECT_EQ(Prepare(text, Context(Kind::k25_7b)).job.penalty_ids, (std::vector<int32_t>{1, 5}));
  Request picture = IdRequest(4);
  picture.generation.use_cache = false;
  EXPECT_FALSE(Prepare(picture, Context(Kind::kVl7b)).job.text_path);
}

TEST(Prepare, OnlyTheKindWithAdaptersTakesThem) {
  Request request;
  request.token_ids = {1, 5};
  request.infer_mode = InferMode::kWrite;
  RequestContext context = Context(Kind::k25_7b);
  context.config.adapters = {.sft = 8, .dpo = 8, .web = 0};
  EXPECT_EQ(Prepare(request, context).job.adapter, Adapter::kWrite);
  ExpectError(ErrorKind::kRequest, "2-vl-7b", [&] { Prepare(request, Context(Kind::kVl7b)); });
}

TEST(Prepare, AnAdapterThatTheCheckpointLacksIsRefusedBeforeThePictures) {
  Request request = IdRequest(4);
  // Resizing would find that the pixels are not there.
  request.images = {ImagePixels{.width = 100, .height = 100, .rgb = {}}};
  const auto refused = [&](InferMode mode, AdapterRanks there, const std::string& part) {
    request.infer_mode = mode;
    RequestContext context = Context(Kind::k25_7b);
    context.config.adapters = there;
    ExpectError(mode == InferMode::kBase ? ErrorKind::kImage : ErrorKind::kRequest, part,
                [&] { Prepare(request, context); });
  };
  refused(InferMode::kBase, {}, "");
  refused(InferMode::kWeb, {.sft = 8, .dpo = 8, .web = 0}, "infer_mode is \"web\"");
  refused(InferMode::kWrite, {.sft = 8, .dpo = 0, .web = 8}, "lora_sft_* and lora_dpo_*");
  refused(InferMode::kWrite, {.sft = 0, .dpo = 8, .web = 8}, "infer_mode is \"write\"");
}

TEST(Prepare, OnlyTheKindThatCanLeaveItsSystemTextOutIsToldSo) {
  for (const Kind kind : kAllKinds) {
    Request request;
    request.token_ids = {1, 5};
    request.use_meta = true;
    EXPECT_NO_THROW(Prepare(request, Context(kind))) << ToString(kind);
    request.use_meta = false;
    if (kind == Kind::k25_7b) {
      EXPECT_NO_THROW(Prepare(request, Context(kind)));
    } else {
      ExpectError(ErrorKind::kRequest, "use_meta is false, but this checkpoint is a",
                  [&] { Prepare(request, Context(kind)); });
    }
  }
}

TEST(Prepare, OnlyTheKindWithAMaxLengthTakesIt) {
  const RequestContext context = Context(Kind::k25_7b);
  Request request;
  request.token_ids = {1, 5};
  request.max_length = 8192;
  ExpectError(ErrorKind::kRequest, "token_ids are taken whole", [&] { Prepare(request, context); });
  for (const int64_t length : {int64_t{0}, int64_t{-1}, (int64_t{1} << 30) + 1}) {
    request.max_length = length;
    ExpectError(ErrorKind::kRequest, "expected 1 to 1073741824",
                [&] { Prepare(request, context); });
  }
  for (const Kind kind : {Kind::kVl7b, Kind::k4khd7b}) {
    request.max_length = 4096;
    ExpectError(ErrorKind::kRequest, "only 2.5-7b takes another number",
                [&] { Prepare(request, Context(kind)); });
  }
}

TEST(Prepare, OnlyTheKindWithVideosTakesThem) {
  Request request = IdRequest(4);
  request.images = {VideoFolder{"/no/such/folder"}};
  ExpectError(ErrorKind::kImage, "2-vl-7b", [&] { Prepare(request, Context(Kind::kVl7b)); });
  ExpectError(ErrorKind::kImage, "/no/such/folder",
              [&] { Prepare(request, Context(Kind::k25_7b)); });
}

TEST(Prepare, SeveralPicturesOf25HaveFewTiles) {
  Request request = IdRequest(4);
  ImagePixels large{.width = 1700, .height = 1700, .rgb = {}};
  large.rgb.assign(static_cast<size_t>(large.width * large.height * 3), 128);
  request.images = {large};
  request.hd_num = 9;
  EXPECT_EQ(Prepare(request, Context(Kind::k25_7b)).job.pictures[0]->width, 3 * 560);
  request.token_ids = {1, kPictureId, kPictureId};
  request.images = {large, large};
  EXPECT_EQ(Prepare(request, Context(Kind::k25_7b)).job.pictures[0]->width, 2 * 560);
}

TEST(Prepare, PicturesWithoutRoomAreRefusedBeforeTheyAreResized) {
  RequestContext context = Context(Kind::k4khd7b);
  context.config.vision.tiled = true;
  context.config.vision.tile = 336;
  context.pictures = PictureBudget{.config = context.config, .traits = {}, .room = 1000};
  Request request = IdRequest(4);
  request.hd_num = 10000;
  // Resizing would find that the pixels are not there.
  request.images = {ImagePixels{.width = 100, .height = 100, .rgb = {}}};
  ExpectError(ErrorKind::kCapacity, "lower hd_num", [&] { Prepare(request, context); });
  context.pictures.reset();
  request.hd_num = 1;
  ExpectError(ErrorKind::kImage, "", [&] { Prepare(request, context); });
}

TEST(Prepare, PicturesTooNarrowToBeResizedAreRefusedByName) {
  Request request = IdRequest(4);
  // Resizing would find that the pixels are not there.
  request.images = {ImagePixels{.width = 1, .height = 20'000'000, .rgb = {}}};
  RequestContext context = Context(Kind::kVl7b);
  ExpectError(ErrorKind::kImage, "picture 'pixels in memory': a picture of 1 x 20000000 pixels",
              [&] { Prepare(request, context); });
  context.image_limits.max_pixels = int64_t{1} << 40;
  ExpectError(ErrorKind::kImage, "should be width * height * 3",
              [&] { Prepare(request, context); });
}

TEST(Prepare, WithoutMemoryToResizeThePictureIsNamed) {
  if (!testing::kCanLimitThreads) GTEST_SKIP() << "this build's memory cannot be limited";
  Request request = IdRequest(4);
  ImagePixels tall{.width = 1, .height = 1'000'000, .rgb = {}};
  tall.rgb.resize(static_cast<size_t>(tall.height * 3));
  request.images = {std::move(tall)};
  RequestContext context = Context(Kind::kVl7b);
  context.config.vision.tile = 1400;
  context.image_limits.max_pixels = int64_t{1} << 40;
  const auto prepare = [&] {
    testing::AllowFewMoreThreads();  // 64 MB and what is free; resizing wants 4.2 GB
    try {
      Prepare(request, context);
    } catch (const Error& error) {
      std::_Exit(error.kind() == ErrorKind::kCapacity && error.where().contains("image") ? 7 : 1);
    }
    std::_Exit(2);
  };
  EXPECT_EXIT(prepare(), ::testing::ExitedWithCode(7), "");
}

TEST(Prepare, ContradictionsAreNamed) {
  const RequestContext context = Context(Kind::kVl7b);
  Request request = IdRequest(4);
  request.text_path = true;
  ExpectError(ErrorKind::kRequest, "text path", [&] { Prepare(request, context); });

  request = IdRequest(4);
  request.query = "and text";
  ExpectError(ErrorKind::kRequest, "token_ids", [&] { Prepare(request, context); });

  request = IdRequest(4);
  request.token_ids.reset();
  ExpectError(ErrorKind::kTokenizer, "tokenizer.model", [&] { Prepare(request, context); });

  for (const double seconds : {0.0, -1.0, 1e300}) {
    request = IdRequest(4);
    request.deadline_s = seconds;
    ExpectError(ErrorKind::kRequest, "deadline_s", [&] { Prepare(request, context); });
  }
  request.deadline_s = 1e9;  // the most that the command line takes
  EXPECT_NO_THROW(Prepare(request, context));

  request = IdRequest(4);
  request.generation.stop = {"."};
  ExpectError(ErrorKind::kRequest, "stop", [&] { Prepare(request, context); });
}

}  // namespace
}  // namespace xcomposer::api
