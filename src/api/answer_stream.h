#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/text_stream.h"
#include "input/detokenizer.h"

namespace xcomposer::api {

/// The engine's view of the detokenizer.
class AnswerStream final : public TextStream {
 public:
  AnswerStream(std::shared_ptr<const CheckpointTokenizer> tokenizer,
               const std::vector<std::string>& stop)
      : tokenizer_(std::move(tokenizer)), text_(*tokenizer_, stop) {}

  Piece Push(int32_t id) override {
    IncrementalDetokenizer::Part part = text_.Push(id);
    return {std::move(part.text), part.stop};
  }
  std::string Finish() override { return text_.Finish().text; }

 private:
  std::shared_ptr<const CheckpointTokenizer> tokenizer_;
  IncrementalDetokenizer text_;
};

}  // namespace xcomposer::api
