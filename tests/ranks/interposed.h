#pragma once

#include <string>

/// Functions of the system and of the library that the rank under test calls in place of the real
/// ones: the linker takes the program's before those of shared libraries.
namespace xcomposer::testing {

/// From now on connections to `port` of loopback go to `other`, where a proxy listens.
void RedirectConnections(int port, int other);

/// The next tensor gets no memory. May be called by a signal handler.
void FailNextAllocation();

/// What xcomposer::Version() says from now on.
void PretendVersion(const std::string& version);

}  // namespace xcomposer::testing
