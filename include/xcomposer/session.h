#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "xcomposer/engine.h"

namespace xcomposer {

struct SessionOptions {
  std::optional<std::string> meta_instruction;
  std::optional<int64_t> hd_num;
  GenerationOptions generation;
  Specials specials = Specials::kLiteral;
};

/// A conversation of several turns. Pictures shown earlier stay part of it and are not encoded again.
///
/// Thread-safety: one thread at a time; several sessions may share an engine.
class XCOMPOSER_API Session {
 public:
  explicit Session(Engine& engine, SessionOptions options = {});

  /// Asks the next question, with new pictures placed at its marks <ImageHere> or, without marks, first.
  /// A turn that fails or is cancelled with no text is not kept.
  Result Ask(const std::string& query, std::vector<ImageSource> images = {},
             const TextCallback& on_text = {});

  /// Ends the running answer; may be called from any thread (a signal handler's watcher, say).
  void Interrupt();

  /// Forgets all turns and pictures.
  void Reset();

  const std::vector<Turn>& history() const { return history_; }

 private:
  Engine& engine_;
  SessionOptions options_;
  std::vector<Turn> history_;
  std::vector<ImageSource> images_;
  std::shared_ptr<struct SessionState> state_;
};

}  // namespace xcomposer
