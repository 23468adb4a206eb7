#include "xcomposer/tokenizer.h"

#include <filesystem>
#include <utility>

#include "api/model_folder.h"
#include "base/check.h"
#include "base/log.h"
#include "checkpoint/checkpoint.h"
#include "config/model_config.h"
#include "input/tokenizer.h"
#include "pipeline/checkpoint_weights.h"

namespace xcomposer {
namespace {

// Which Python class the checkpoint ships follows from its kind. Where that cannot be told (a
// folder with a tokenizer and no weights, say) it is the class of the first kinds.
TokenizerStyle StyleOf(const std::filesystem::path& folder) {
  try {
    return TokenizerStyleFor(LoadConfig(folder, HeadersOf(Checkpoint::Open(folder))).kind);
  } catch (const Error& error) {
    log::Debug("tokenizer: the kind of ", folder.string(), " is not known (", error.what(), ")");
    return TokenizerStyle{};
  }
}

}  // namespace

class Tokenizer::Impl {
 public:
  explicit Impl(std::unique_ptr<const CheckpointTokenizer> tokenizer)
      : tokenizer_(std::move(tokenizer)) {}
  const CheckpointTokenizer& get() const { return *tokenizer_; }

  /// Ids that come from a caller are input; below, such an id means a broken checkpoint.
  const std::vector<int32_t>& Checked(const std::vector<int32_t>& ids) const {
    for (const int32_t id : ids) {
      Require(id >= 0 && id < tokenizer_->size(), ErrorKind::kRequest, "id ", id,
              " is not in the tokenizer, which has the ids 0 to ", tokenizer_->size() - 1);
    }
    return ids;
  }

 private:
  std::unique_ptr<const CheckpointTokenizer> tokenizer_;
};

Tokenizer Tokenizer::Load(const std::string& model) {
  const auto folder = api::FindModelFolder(model);
  return Tokenizer(std::make_unique<Impl>(LoadTokenizer(folder, StyleOf(folder))));
}

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

std::vector<int32_t> Tokenizer::Encode(std::string_view text) const {
  return impl_->get().Encode(text);
}
std::string Tokenizer::Decode(const std::vector<int32_t>& ids) const {
  return impl_->get().Decode(impl_->Checked(ids));
}
std::vector<int32_t> Tokenizer::EncodeAsPython(std::string_view text) const {
  return impl_->get().EncodeAsPython(text);
}
std::string Tokenizer::DecodeAsPython(const std::vector<int32_t>& ids) const {
  return impl_->get().DecodeAsPython(impl_->Checked(ids));
}
int64_t Tokenizer::size() const { return impl_->get().size(); }

}  // namespace xcomposer
