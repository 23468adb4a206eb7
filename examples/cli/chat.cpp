#include <unistd.h>

#include <atomic>
#include <chrono>
#include <iostream>
#include <memory>
#include <thread>

#include "commands.h"
#include "exit_code.h"
#include "flags.h"
#include "image_roots.h"
#include "interrupt.h"
#include "line_reader.h"
#include "output.h"
#include "progress_bar.h"
#include "utf8.h"
#include "xcomposer/session.h"

namespace xcomposer::cli {
namespace {

struct ChatFlags {
  EngineFlags engine;
  RequestFlags request;
  std::vector<std::string> images;
};

constexpr const char* kHelp =
    "  /image FILE   show a picture with the next question\n"
    "  /reset        forget the conversation and its pictures\n"
    "  /help         this list\n"
    "  /exit         leave (or the end of the input)\n"
    "  Ctrl-C stops an answer.\n";

// Turns Ctrl-C into Session::Interrupt while an answer is on its way: a handler may not call it
// itself.
class AnswerGuard {
 public:
  explicit AnswerGuard(Session& session)
      : watcher_([this, &session] {
          while (!done_.load()) {
            if (TakeInterrupt()) session.Interrupt();
            std::this_thread::sleep_for(std::chrono::milliseconds(30));
          }
        }) {}
  ~AnswerGuard() {
    done_.store(true);
    watcher_.join();
  }
  AnswerGuard(const AnswerGuard&) = delete;
  AnswerGuard& operator=(const AnswerGuard&) = delete;

 private:
  std::atomic<bool> done_{false};
  std::thread watcher_;
};

class Chat {
 public:
  Chat(Engine& engine, const ChatFlags& flags)
      : bar_("prompt", !flags.engine.quiet, ProgressBar::Unit::kRows),
        session_(engine, Options(flags)),
        terminal_(isatty(STDIN_FILENO) == 1),
        reader_([this] {
          if (Terminated()) return false;
          if (TakeInterrupt() && terminal_) std::cout << "\n(/exit leaves)\n> " << std::flush;
          return true;
        }) {
    for (const std::string& image : flags.images) Show(image);
  }

  int Run() {
    if (terminal_) std::cout << kHelp;
    while (!Terminated()) {
      if (terminal_) std::cout << "> " << std::flush;
      const std::optional<std::string> line = reader_.Next();
      if (!line || !Handle(*line)) break;
    }
    if (terminal_) std::cout << std::endl;
    return Terminated() ? static_cast<int>(kInterrupted) : exit_code_;
  }

 private:
  SessionOptions Options(const ChatFlags& flags) {
    SessionOptions options = ToSessionOptions(flags.request);
    options.progress = [this](const PromptProgress& progress) {
      bar_.Update(progress.rows_done, progress.rows_total);
    };
    return options;
  }

  // False ends the conversation. An error is told and the conversation goes on; for a program at
  // the other end of the pipe the exit code keeps the first one.
  bool Handle(const std::string& line) {
    try {
      if (line.empty()) return true;
      if (line.front() != '/') {
        Ask(line);
        return true;
      }
      return Command(line);
    } catch (const Error& error) {
      bar_.Clear();
      const int code = Report(error, false);
      if (!terminal_ && exit_code_ == kDone) exit_code_ = code;
      return true;
    }
  }

  bool Command(const std::string& line) {
    const size_t space = line.find(' ');
    const std::string word = line.substr(0, space);
    const std::string rest = space == std::string::npos ? "" : line.substr(space + 1);
    if (word == "/exit" || word == "/quit") return false;
    if (word == "/image") {
      Show(rest);
    } else if (word == "/reset") {
      session_.Reset();
      pending_.clear();
    } else if (word == "/help") {
      std::cout << kHelp;
    } else {
      throw Error(ErrorKind::kUsage, "unknown command '" + word + "'; /help lists them");
    }
    return true;
  }

  void Show(const std::string& name) { pending_.push_back(ImageAt(FindImage(name, {""}, ""))); }

  void Ask(const std::string& question) {
    RequireUtf8(question, ErrorKind::kPrompt, "the question");
    const AnswerGuard guard(session_);
    const Result result =
        session_.Ask(question, std::exchange(pending_, {}), [this](const std::string& text) {
          bar_.Clear();
          std::cout << text << std::flush;
        });
    bar_.Clear();  // where there was no text
    std::cout << std::endl;
    WarnOfCutPrompt(result);  // the question itself is at the end of the prompt
    if (result.prompt_truncated > 0) std::cerr << "/reset begins anew\n";
    if (result.finish_reason == FinishReason::kLength) WarnOfCutAnswer(result, "--max-new-tokens");
    if (result.finish_reason == FinishReason::kDeadline) WarnOfCutAnswer(result, "--deadline");
  }

  static void WarnOfCutAnswer(const Result& result, const char* option) {
    std::cerr << "warning: the answer was cut off after " << result.output_ids.size() << " tokens ("
              << option << ")\n";
  }

  ProgressBar bar_;
  Session session_;
  const bool terminal_;
  LineReader reader_;
  std::vector<ImageSource> pending_;
  int exit_code_ = kDone;
};

}  // namespace

void AddChat(CLI::App& app, Chosen& chosen) {
  CLI::App* command = app.add_subcommand("chat", "Talk with the model, several turns");
  auto flags = std::make_shared<ChatFlags>();
  command->add_option("--image", flags->images, "Picture for the first question (may be repeated)")
      ->type_name("FILE");
  AddEngineFlags(*command, flags->engine);
  AddRequestFlags(*command, flags->request);
  command->footer(std::string("While it runs:\n") + kHelp + app.get_footer());
  NameEnvironmentVariables(*command);
  command->callback([flags, &chosen] {
    chosen.run = [flags] {
      if (const std::optional<int> code = ServeWhereNotFirst(flags->engine)) return *code;
      WatchInterrupt();
      Engine engine = LoadEngine(flags->engine);
      if (flags->engine.show_placement) std::cout << Describe(engine.placement()) << std::flush;
      return Chat(engine, *flags).Run();
    };
  });
}

}  // namespace xcomposer::cli
