#pragma once

#include "xcomposer/error.h"

namespace xcomposer::cli {

inline constexpr int kDone = 0;
inline constexpr int kOtherFailure = 1;
inline constexpr int kWrongUsage = 2;
inline constexpr int kBadInput = 3;
inline constexpr int kBadCheckpoint = 4;
inline constexpr int kDoesNotFit = 5;
inline constexpr int kRankFailed = 6;
inline constexpr int kInterrupted = 130;

int ExitCode(ErrorKind kind);

}  // namespace xcomposer::cli
