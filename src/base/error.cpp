#include "xcomposer/error.h"

namespace xcomposer {

const char* ToString(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kUsage:
      return "usage";
    case ErrorKind::kRequest:
      return "request";
    case ErrorKind::kImage:
      return "image";
    case ErrorKind::kPrompt:
      return "prompt";
    case ErrorKind::kTokenizer:
      return "tokenizer";
    case ErrorKind::kCheckpoint:
      return "checkpoint";
    case ErrorKind::kConfig:
      return "config";
    case ErrorKind::kPlan:
      return "plan";
    case ErrorKind::kCapacity:
      return "capacity";
    case ErrorKind::kDevice:
      return "device";
    case ErrorKind::kRank:
      return "rank";
    case ErrorKind::kTransport:
      return "transport";
    case ErrorKind::kDeadline:
      return "deadline";
    case ErrorKind::kCancelled:
      return "cancelled";
    case ErrorKind::kInternal:
      return "internal";
  }
  return "internal";
}

}  // namespace xcomposer
