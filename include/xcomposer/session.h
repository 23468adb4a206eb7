#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "xcomposer/engine.h"

namespace xcomposer {

struct SessionOptions {
  std::optional<std::string> meta_instruction;
  std::optional<bool> use_meta;       ///< as Request's
  std::optional<int64_t> max_length;  ///< as Request's
  std::optional<int64_t> hd_num;      ///< 4khd and 2.5: limit of tiles
  InferMode infer_mode = InferMode::kBase;
  Specials specials = Specials::kLiteral;
  GenerationOptions generation;
  std::optional<double> deadline_s;  ///< of each answer
  ProgressCallback progress = {};    ///< called by Ask, before the answer's text
};

/// A conversation of several turns. Earlier pictures stay part of it: the session keeps the bytes
/// of picture files as they were when asked with (videos are read again each turn), and the engine
/// the features of pictures while there is room, so that they are seldom encoded again.
///
/// Thread-safety: one thread at a time, except Interrupt; several sessions may share an engine.
class XCOMPOSER_API Session {
 public:
  /// The engine must outlive the session.
  explicit Session(Engine& engine, SessionOptions options = {});
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;
  ~Session();

  /// Asks the next question, with new pictures placed at its marks <ImageHere> or, without marks,
  /// first. A turn that fails is not kept, nor one that is cancelled or ended by its deadline
  /// before there is any text. Throws as Engine::Generate.
  Result Ask(const std::string& query, std::vector<ImageSource> images = {},
             const TextCallback& on_text = {});

  /// Ends the running answer, if any; callable from any thread, but not from a signal handler.
  void Interrupt();

  /// Forgets all turns and pictures.
  void Reset();

  const std::vector<Turn>& history() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace xcomposer
