#include "base/check.h"
#include "input/piece_encoder.h"

namespace xcomposer {
namespace {

class NoPieceEncoder : public PieceEncoder {
 public:
  std::vector<int32_t> Encode(std::string_view) const override {
    throw Error(
        ErrorKind::kTokenizer,
        "text cannot be encoded: this build of libxcomposer has no sentencepiece. Give the request "
        "as token ids, or install libsentencepiece-dev and configure with "
        "-DXCOMPOSER_WITH_SENTENCEPIECE=ON");
  }
};

}  // namespace

bool HasSentencePiece() { return false; }

std::unique_ptr<PieceEncoder> MakePieceEncoder(std::string_view) {
  return std::make_unique<NoPieceEncoder>();
}

}  // namespace xcomposer
