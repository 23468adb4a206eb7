#include "exit_code.h"

namespace xcomposer::cli {

int ExitCode(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kUsage:
      return kWrongUsage;
    case ErrorKind::kRequest:
    case ErrorKind::kImage:
    case ErrorKind::kPrompt:
      return kBadInput;
    case ErrorKind::kTokenizer:
    case ErrorKind::kCheckpoint:
    case ErrorKind::kConfig:
      return kBadCheckpoint;
    case ErrorKind::kPlan:
    case ErrorKind::kCapacity:
    case ErrorKind::kDevice:
      return kDoesNotFit;
    case ErrorKind::kRank:
    case ErrorKind::kTransport:
      return kRankFailed;
    case ErrorKind::kCancelled:
      return kInterrupted;
    case ErrorKind::kDeadline:
    case ErrorKind::kInternal:
      return kOtherFailure;
  }
  return kOtherFailure;
}

}  // namespace xcomposer::cli
