#include <sentencepiece_processor.h>

#include <exception>

#include "base/check.h"
#include "input/piece_encoder.h"

namespace xcomposer {
namespace {

/// The library reports by status codes and, from its tries and containers, by exceptions.
template <typename Call>
void Guard(const char* what, Call call) {
  std::string failure;
  try {
    const sentencepiece::util::Status status = call();
    if (status.ok()) return;
    failure = status.ToString();
  } catch (const std::exception& error) {
    failure = error.what();
  }
  throw Error(ErrorKind::kTokenizer, StrCat("sentencepiece ", what, ": ", failure));
}

class SentencePieceEncoder : public PieceEncoder {
 public:
  explicit SentencePieceEncoder(std::string_view model_bytes) {
    Guard("refuses tokenizer.model",
          [&] { return processor_.LoadFromSerializedProto(model_bytes); });
  }

  std::vector<int32_t> Encode(std::string_view text) const override {
    std::vector<int> ids;
    Guard("cannot encode the text", [&] { return processor_.Encode(text, &ids); });
    return ids;
  }

 private:
  sentencepiece::SentencePieceProcessor processor_;
};

}  // namespace

bool HasSentencePiece() { return true; }

std::unique_ptr<PieceEncoder> MakePieceEncoder(std::string_view model_bytes) {
  return std::make_unique<SentencePieceEncoder>(model_bytes);
}

}  // namespace xcomposer
