#pragma once

namespace xcomposer::cli {

/// From now on Ctrl-C (SIGINT) and SIGTERM are noted instead of ending the program. A second one
/// that nobody has taken ends it with status 130.
void WatchInterrupt();

/// Whether Ctrl-C was pressed and not yet taken.
bool Interrupted();

/// The same, and takes it: the next call says no.
bool TakeInterrupt();

/// Whether the program was asked to end (SIGTERM); nothing takes that back.
bool Terminated();

}  // namespace xcomposer::cli
