#include "api/benchmark_cases.h"

#include <algorithm>

#include "api/picture_plan.h"
#include "base/check.h"

namespace xcomposer::api {
namespace {

constexpr int64_t kTextBesidePicture = 64;  // as in predictions (docs/placement.md)

/// Numbers that look random and depend on `run` and `i` only.
uint64_t Mixed(int64_t run, int64_t i) {
  uint64_t x = static_cast<uint64_t>(run) * 0x9e3779b97f4a7c15ULL + static_cast<uint64_t>(i);
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

ImagePixels Noise(int64_t width, int64_t height, int64_t run) {
  ImagePixels pixels{.width = width, .height = height, .rgb = {}};
  pixels.rgb.resize(static_cast<size_t>(width * height * 3));
  for (size_t i = 0; i < pixels.rgb.size(); ++i) {
    pixels.rgb[i] = static_cast<uint8_t>(Mixed(run, static_cast<int64_t>(i)));
  }
  return pixels;
}

BenchmarkRequest TextPrompt(const ModelConfig& config, const measure::Storage& storage,
                            int64_t tokens) {
  BenchmarkCase prefill{.name = StrCat("prefill ", tokens), .phase = "prefill", .rows = tokens};
  prefill.work = prefill.token_work = measure::PrefillWork(config, storage, {tokens, 0});
  return {.prompt_tokens = tokens, .new_tokens = 1, .cases = {prefill}};
}

BenchmarkRequest Answer(const ModelConfig& config, const measure::Storage& storage, int64_t context,
                        int64_t new_tokens) {
  const int64_t timed = new_tokens - 1;  // the first token comes with the prompt
  BenchmarkCase decode{
      .name = StrCat("decode ", context), .phase = "decode", .rows = timed, .context = context};
  decode.work = measure::DecodeWork(config, storage, context, timed);
  decode.token_work = {decode.work.bytes / static_cast<double>(timed),
                       decode.work.operations / static_cast<double>(timed)};
  return {.prompt_tokens = context, .new_tokens = new_tokens, .cases = {decode}};
}

BenchmarkRequest PicturePrompt(const BenchmarkOptions& options, const ModelConfig& config,
                               const measure::Storage& storage) {
  BenchmarkRequest request;
  request.hd_num = config.vision.tiled ? options.hd_num.value_or(DefaultHdNum(config)) : 0;
  const PictureShape shape =
      ShapeOf(config, {options.image_width, options.image_height, 1, request.hd_num});
  request.prompt_tokens = kTextBesidePicture;
  request.image_width = options.image_width > 0 ? options.image_width : shape.width;
  request.image_height = options.image_height > 0 ? options.image_height : shape.height;

  BenchmarkCase vision{.name = "vision", .phase = "vision", .rows = shape.rows};
  vision.picture_rows = shape.rows;
  vision.work = vision.token_work = measure::VisionWork(config, storage, shape);
  BenchmarkCase prefill{.name = "prefill picture", .phase = "prefill"};
  prefill.rows = shape.rows + kTextBesidePicture;
  prefill.picture_rows = shape.rows;
  prefill.work = prefill.token_work =
      measure::PrefillWork(config, storage, {prefill.rows, shape.rows});
  request.cases = {vision, prefill};
  return request;
}

}  // namespace

double BenchmarkCase::SecondsOf(const Timings& timings) const {
  if (phase == "vision") return timings.image_s;
  return phase == "prefill" ? timings.prefill_s : timings.decode_s;
}

Request BenchmarkRequest::Make(const ModelConfig& config, int64_t run) const {
  Request request;
  std::vector<int32_t> ids = {config.bos_id};
  if (image_width > 0) {
    ids.push_back(kPictureId);
    request.images = {Noise(image_width, image_height, run)};
    if (hd_num > 0) request.hd_num = hd_num;
  }
  for (int64_t i = 1; i < prompt_tokens; ++i) {
    ids.push_back(static_cast<int32_t>(Mixed(run, i) % static_cast<uint64_t>(config.vocab_size)));
  }
  request.token_ids = std::move(ids);
  GenerationOptions& generation = request.generation;
  generation.do_sample = false;
  generation.num_beams = 1;
  generation.repetition_penalty = 1.0;
  generation.max_new_tokens = new_tokens;
  generation.eos_token_id = std::vector<int32_t>{};
  generation.use_cache = true;
  return request;
}

std::vector<BenchmarkRequest> BenchmarkRequests(const BenchmarkOptions& options,
                                                const ModelConfig& config,
                                                const measure::Storage& storage) {
  std::vector<BenchmarkRequest> requests;
  if (options.picture) requests.push_back(PicturePrompt(options, config, storage));
  for (const int64_t tokens : options.prompt_tokens) {
    requests.push_back(TextPrompt(config, storage, tokens));
  }
  for (const int64_t context : options.contexts) {
    requests.push_back(Answer(config, storage, context, options.new_tokens));
  }
  return requests;
}

}  // namespace xcomposer::api
