#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "xcomposer/export.h"

namespace xcomposer {

/// The tokenizer of a checkpoint folder (tokenizer.model).
///
/// Thread-safety: const methods may be called from any thread.
class XCOMPOSER_API Tokenizer {
 public:
  /// `model`: the folder, or a repository id in the local Hugging Face cache. Throws kCheckpoint
  /// where there is no such folder, kTokenizer where the file in it is missing or broken, or this
  /// build has no sentencepiece.
  static Tokenizer Load(const std::string& model);
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  /// The model file's own encoding: no BOS, special pieces recognised. Throws kPrompt for a text of
  /// more than 8 MiB; decoding throws kRequest for an id that the tokenizer does not have.
  std::vector<int32_t> Encode(std::string_view text) const;
  std::string Decode(const std::vector<int32_t>& ids) const;

  /// What the checkpoint's Python tokenizer does, with its special strings and its clean-up of
  /// decoded text.
  std::vector<int32_t> EncodeAsPython(std::string_view text) const;
  std::string DecodeAsPython(const std::vector<int32_t>& ids) const;

  int64_t size() const;

 private:
  class Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace xcomposer
