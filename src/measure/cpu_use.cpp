#include "measure/cpu_use.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>

namespace xcomposer::measure {
namespace {

double Seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
}

}  // namespace

std::optional<CpuTime> ParseCpuTime(const std::string& stat, double ticks_per_second) {
  std::istringstream in(stat.substr(0, stat.find('\n')));
  std::string word;
  if (!(in >> word) || word != "cpu" || ticks_per_second <= 0) return std::nullopt;
  // Guests' time, the last two columns, is part of user and nice.
  double user = 0, nice = 0, system = 0, idle = 0, disk = 0, irq = 0, softirq = 0, steal = 0;
  if (!(in >> user >> nice >> system >> idle)) return std::nullopt;
  in >> disk >> irq >> softirq >> steal;  // old systems have fewer
  return CpuTime{.busy = (user + nice + system + irq + softirq) / ticks_per_second,
                 .idle = (idle + disk) / ticks_per_second,
                 .stolen = steal / ticks_per_second};
}

std::optional<CpuUse::Reading> CpuUse::Read() {
  std::ifstream file("/proc/stat");
  std::string line;
  if (!std::getline(file, line)) return std::nullopt;
  const auto machine = ParseCpuTime(line, static_cast<double>(sysconf(_SC_CLK_TCK)));
  rusage own{};
  if (!machine || getrusage(RUSAGE_SELF, &own) != 0) return std::nullopt;
  return Reading{*machine, Seconds(own.ru_utime) + Seconds(own.ru_stime)};
}

void CpuUse::Start() { started_ = Read(); }

void CpuUse::Stop() {
  const auto now = Read();
  if (started_ && now) Add(started_->machine, now->machine, now->own - started_->own);
  started_.reset();
}

void CpuUse::Add(const CpuTime& before, const CpuTime& after, double own) {
  all_ += after.all() - before.all();
  foreign_ += after.busy - before.busy - own;
  stolen_ += after.stolen - before.stolen;
}

std::optional<CpuShares> CpuUse::shares() const {
  if (all_ <= 0) return std::nullopt;
  // Ticks and our own microseconds do not end together: a little below zero is nothing.
  return CpuShares{.foreign = std::clamp(foreign_ / all_, 0.0, 1.0),
                   .stolen = std::clamp(stolen_ / all_, 0.0, 1.0)};
}

}  // namespace xcomposer::measure
