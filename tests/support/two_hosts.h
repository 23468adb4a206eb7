#pragma once

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

namespace xcomposer {

/// Two network namespaces as hosts, with a link between them. Needs the right to make namespaces,
/// and iproute2.
class TwoHosts {
 public:
  TwoHosts() : names_{Name("a"), Name("b")} {
    const std::string& a = names_[0];
    const std::string& b = names_[1];
    made_ = Succeeds("ip netns add " + a) && Succeeds("ip netns add " + b) &&
            Succeeds("ip -n " + a + " link add up0 type veth peer name up0 netns " + b);
    for (int host = 0; made_ && host < 2; ++host) {
      const std::string in = "ip -n " + name(host);
      made_ = Succeeds(in + " addr add " + Address(host) + "/24 dev up0") &&
              Succeeds(in + " link set up0 up") && Succeeds(in + " link set lo up");
    }
  }
  TwoHosts(const TwoHosts&) = delete;
  TwoHosts& operator=(const TwoHosts&) = delete;
  ~TwoHosts() {
    for (const std::string& name : names_) Succeeds("ip netns del " + name);
  }

  bool made() const { return made_; }
  const std::string& name(int host) const { return names_[static_cast<size_t>(host)]; }
  static std::string Address(int host) { return "10.77.0." + std::to_string(host + 1); }

  /// Takes the link down or up.
  bool SetLink(bool up) const {
    return Succeeds("ip -n " + names_[0] + " link set up0 " + (up ? "up" : "down"));
  }

  /// Moves this process, which must have one thread, to a host.
  bool Enter(int host) const {
    const int fd = open(("/var/run/netns/" + name(host)).c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    const bool entered = setns(fd, CLONE_NEWNET) == 0;
    close(fd);
    return entered;
  }

 private:
  static std::string Name(const char* host) { return "xc" + std::to_string(getpid()) + host; }
  static bool Succeeds(const std::string& command) {
    return std::system((command + " > /dev/null 2>&1").c_str()) == 0;
  }

  const std::string names_[2];
  bool made_ = false;
};

}  // namespace xcomposer
