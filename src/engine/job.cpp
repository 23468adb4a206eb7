#include "engine/job.h"

namespace xcomposer {

const char* ToString(JobFinish finish) {
  switch (finish) {
    case JobFinish::kStop:
      return "stop";
    case JobFinish::kLength:
      return "length";
    case JobFinish::kCancelled:
      return "cancelled";
    case JobFinish::kDeadline:
      return "deadline";
  }
  return "unknown";
}

}  // namespace xcomposer
