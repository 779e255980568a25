#include "experiments/bench/pause_bench_cpu.hpp"

#include <dirent.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <fstream>
#include <sstream>
#include <string>

namespace tandem::bench {
namespace {

// Clock ticks of one process, from the fields 14 and 15 of its stat.
double process_ticks(const std::string& pid) {
  std::ifstream file("/proc/" + pid + "/stat");
  std::string line;
  std::getline(file, line);
  // The program's name may hold anything; fields are counted from its closing parenthesis.
  const auto name_end = line.rfind(')');
  if (name_end == std::string::npos) return 0;
  std::istringstream fields(line.substr(name_end + 1));
  std::string skipped;
  for (int field = 3; field < 14; ++field) fields >> skipped;
  double user = 0, system = 0;
  fields >> user >> system;
  return user + system;
}

}  // namespace

CpuMeter::Reading CpuMeter::read() {
  const double ticks = static_cast<double>(::sysconf(_SC_CLK_TCK));
  Reading reading;
  std::ifstream file("/proc/stat");
  std::string cpu;
  double user = 0, nice = 0, system = 0;
  file >> cpu >> user >> nice >> system;
  reading.machine = (user + nice + system) / ticks;
  if (DIR* processes = ::opendir("/proc")) {
    while (const dirent* entry = ::readdir(processes)) {
      const std::string name(static_cast<const char*>(entry->d_name));
      if (std::isdigit(static_cast<unsigned char>(name[0])) != 0)
        reading.own += process_ticks(name) / ticks;
    }
    ::closedir(processes);
  }
  return reading;
}

CpuMeter::CpuMeter() : begin_(read()) {}

double CpuMeter::others_seconds() const {
  const auto now = read();
  return std::max(0.0, (now.machine - begin_.machine) - (now.own - begin_.own));
}

}  // namespace tandem::bench
