#pragma once

#include <gtest/gtest.h>

#include <string>

#include "xcomposer/xcomposer.h"

namespace xcomposer::testing_support {

/// The project's own small checkpoint.
inline const std::string kDemo = XCOMPOSER_SOURCE_DIR "/demo/checkpoint";

inline Engine LoadDemo(std::vector<std::string> devices = {"cpu"}) {
  EngineOptions options;
  options.model = kDemo;
  options.devices = std::move(devices);
  return Engine::Load(options);
}

/// A picture that needs no decoder.
inline ImagePixels Gradient(uint8_t shift = 0) {
  ImagePixels pixels{.width = 40, .height = 30, .rgb = {}};
  for (int64_t i = 0; i < pixels.width * pixels.height * 3; ++i) {
    pixels.rgb.push_back(static_cast<uint8_t>(i * 7 + shift));
  }
  return pixels;
}

/// A prompt that needs no tokenizer: BOS, a picture, some pieces. Gives `steps` ids, nearly evenly
/// drawn: what the model itself would say to such a prompt is the end of the turn, which has no
/// text.
inline Request IdRequest(int64_t steps, uint8_t shift = 0) {
  Request request;
  request.token_ids = {1, kPictureId, 40, 41, 42};
  request.images = {Gradient(shift)};
  request.generation.do_sample = true;
  request.generation.temperature = 100.0;
  request.generation.top_k = 0;
  request.generation.top_p = 1.0;
  request.generation.seed = 7;
  request.generation.max_new_tokens = steps;
  request.generation.eos_token_id = std::vector<int32_t>{};
  return request;
}

template <typename Call>
void ExpectError(ErrorKind kind, const std::string& part, Call&& call) {
  try {
    call();
    ADD_FAILURE() << "no error; expected one about '" << part << "'";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << ToString(error.kind()) << ": " << error.what();
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}

}  // namespace xcomposer::testing_support
