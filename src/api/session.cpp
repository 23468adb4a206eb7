#include "xcomposer/session.h"

#include <atomic>
#include <utility>
#include <variant>

#include "input/image_decoder.h"

namespace xcomposer {
namespace {

constexpr char kImageMark[] = "<ImageHere>";

int64_t CountMarks(const std::string& text) {
  int64_t count = 0;
  for (size_t at = text.find(kImageMark); at != std::string::npos;
       at = text.find(kImageMark, at + sizeof(kImageMark) - 1)) {
    ++count;
  }
  return count;
}

// The marks are written into the turn itself: later turns number pictures over the whole history.
std::string WithMarks(std::string query, size_t pictures) {
  std::string marks;
  for (auto count = CountMarks(query); count < static_cast<int64_t>(pictures); ++count) {
    marks += kImageMark;
  }
  return marks + std::move(query);
}

/// A later turn must see the same picture, whatever has become of its file. Videos are left as they
/// are: their frames are many files, and large.
ImageSource Kept(ImageSource source) {
  const auto* file = std::get_if<ImageFile>(&source);
  if (file == nullptr) return source;
  const std::string bytes = ReadImageFile(file->path, {});
  return ImageBytes{{bytes.begin(), bytes.end()}, file->path};
}

}  // namespace

class Session::Impl {
 public:
  Impl(Engine& engine, SessionOptions options) : engine_(engine), options_(std::move(options)) {}

  Result Ask(const std::string& query, std::vector<ImageSource> images,
             const TextCallback& on_text) {
    interrupted_.store(false);
    Turn turn{WithMarks(query, images.size()), ""};
    const size_t known = images_.size();
    try {
      for (ImageSource& image : images) images_.push_back(Kept(std::move(image)));
      Result result = Run(MakeRequest(turn.query), on_text);
      const bool cut = result.finish_reason == FinishReason::kCancelled ||
                       result.finish_reason == FinishReason::kDeadline;
      if (!cut || !result.text.empty()) {
        turn.answer = result.text;
        history_.push_back(std::move(turn));
      } else {
        images_.resize(known, ImageSource());
      }
      return result;
    } catch (...) {
      images_.resize(known, ImageSource());
      throw;
    }
  }

  void Interrupt() {
    interrupted_.store(true);
    if (const RequestId id = running_.load(); id != 0) engine_.Cancel(id);
  }

  void Reset() {
    history_.clear();
    images_.clear();
  }

  const std::vector<Turn>& history() const { return history_; }

 private:
  Request MakeRequest(const std::string& query) const {
    Request request;
    request.query = query;
    request.history = history_;
    if (!images_.empty()) request.images = images_;
    request.meta_instruction = options_.meta_instruction;
    request.use_meta = options_.use_meta;
    request.max_length = options_.max_length;
    request.hd_num = options_.hd_num;
    request.infer_mode = options_.infer_mode;
    request.specials = options_.specials;
    request.generation = options_.generation;
    request.deadline_s = options_.deadline_s;
    request.reports_progress = static_cast<bool>(options_.progress);
    return request;
  }

  Result Run(const Request& request, const TextCallback& on_text) {
    const RequestId id = engine_.Submit(request);
    running_.store(id);
    // While pictures were read and prepared there was no request to cancel yet.
    if (interrupted_.load()) engine_.Cancel(id);
    struct Finished {
      std::atomic<RequestId>& running;
      ~Finished() { running.store(0); }
    } finished{running_};
    return engine_.Wait(id, on_text, options_.progress);
  }

  Engine& engine_;
  SessionOptions options_;
  std::vector<Turn> history_;
  std::vector<ImageSource> images_;
  std::atomic<RequestId> running_{0};     // 0: none
  std::atomic<bool> interrupted_{false};  // since the question was asked
};

Session::Session(Engine& engine, SessionOptions options)
    : impl_(std::make_unique<Impl>(engine, std::move(options))) {}
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;
Session::~Session() = default;

Result Session::Ask(const std::string& query, std::vector<ImageSource> images,
                    const TextCallback& on_text) {
  return impl_->Ask(query, std::move(images), on_text);
}
void Session::Interrupt() { impl_->Interrupt(); }
void Session::Reset() { impl_->Reset(); }
const std::vector<Turn>& Session::history() const { return impl_->history(); }

}  // namespace xcomposer
