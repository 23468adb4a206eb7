#include "transport/loss_notice.h"

#include <charconv>
#include <chrono>
#include <thread>

#include "base/check.h"
#include "base/log.h"

namespace xcomposer {
namespace {

using std::chrono::steady_clock;

constexpr std::chrono::milliseconds kPause{10};  // between two looks into the store
const char* const kNoticeKey = "notice";

std::string LeftKey(int rank) { return StrCat("left/", rank); }

std::optional<int> RankIn(const std::string& text, int world_size) {
  int rank = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, rank);
  if (error != std::errc() || rest != end || rank < 0 || rank >= world_size) return std::nullopt;
  return rank;
}

}  // namespace

std::string EncodeNotice(const LossNotice& notice) {
  return StrCat(notice.cause == LossNotice::Cause::kLost ? "lost/" : "secret/", notice.rank);
}

std::optional<LossNotice> DecodeNotice(const std::string& text, int world_size) {
  const size_t slash = text.find('/');
  if (slash == std::string::npos) return std::nullopt;
  const std::string cause = text.substr(0, slash);
  const std::optional<int> rank = RankIn(text.substr(slash + 1), world_size);
  if (!rank || (cause != "lost" && cause != "secret")) return std::nullopt;
  return LossNotice{cause == "lost" ? LossNotice::Cause::kLost : LossNotice::Cause::kSecret, *rank};
}

std::optional<LossNotice> NoticeOf(const Error& reason, int own_rank) {
  const auto found = reason.where().find("rank");
  if (found == reason.where().end()) return LossNotice{LossNotice::Cause::kLost, own_rank};
  const std::optional<int> rank = RankIn(found->second, 1 << 16);
  if (!rank) return std::nullopt;
  if (reason.kind() == ErrorKind::kRank) return LossNotice{LossNotice::Cause::kLost, *rank};
  const bool by_key = reason.where().count("field") && reason.where().at("field") == "secret";
  if (!by_key || own_rank != 0) return std::nullopt;
  return LossNotice{LossNotice::Cause::kSecret, *rank};
}

void ThrowIfNoticed(TimedStore& store, const RendezvousOptions& options) {
  const std::optional<std::string> text = store.TryGet(kNoticeKey);
  if (!text) return;
  const std::optional<LossNotice> notice = DecodeNotice(*text, options.world_size);
  Require(notice.has_value(), ErrorKind::kTransport, "the store at ", options.place, " holds ",
          text->size(), " bytes as the reason of an end that are none");
  Error::Where where = {{"rank", StrCat(notice->rank)}, {"stage", "0"}, {"step", "0"}};
  if (notice->cause == LossNotice::Cause::kSecret) {
    where["field"] = "secret";
    throw Error(
        ErrorKind::kTransport,
        StrCat("rank ", notice->rank, " has another secret than rank 0. Start every rank ",
               "with the same one (--secret-file or XCOMPOSER_SECRET), or all of them ", "without"),
        std::move(where));
  }
  throw Error(ErrorKind::kRank,
              StrCat("rank ", notice->rank, " was lost before all ranks had met: another rank ",
                     "found it and left word at the rendezvous ", options.place),
              std::move(where));
}

void LeaveMeeting(TimedStore& store, const RendezvousOptions& options, const Error& reason,
                  const std::vector<int>& others, TimePoint until) {
  const std::optional<LossNotice> notice = NoticeOf(reason, options.rank);
  const auto named = reason.where().find("rank");
  const std::string lost = named == reason.where().end() ? StrCat(options.rank) : named->second;
  // A store goes with its keeper; asking it would only cost time. A rank 0 that differs in
  // something is not gone: it waits for this word.
  const bool keeper_is_gone = reason.kind() == ErrorKind::kRank && lost == "0";
  if (!options.agent_store && options.rank != 0 && keeper_is_gone) return;
  try {
    if (notice) store.Set(kNoticeKey, EncodeNotice(*notice));
    store.Set(LeftKey(options.rank), "left");
    if (options.rank != 0 || options.agent_store) return;
    for (const int other : others) {
      while (StrCat(other) != lost && steady_clock::now() < until &&
             !store.TryGet(LeftKey(other))) {
        std::this_thread::sleep_for(kPause);
      }
    }
  } catch (const Error& error) {
    log::Debug("while the meeting was given up: ", error.what());
  }
}

}  // namespace xcomposer
