#include "experiments/survival/path.hpp"

#include <array>
#include <fstream>
#include <sstream>
#include <thread>

namespace tandem::survival {
namespace {

constexpr const char* kLink = "eth0";
constexpr const char* kPort = "port-client";
constexpr const char* kSwitch = "sw0";
// The line's other end, and what connects that with the switch.
constexpr const char* kLineEnd = "line-end";
constexpr const char* kLinePort = "port-line";

constexpr std::array kKinds{PathKind::plain, PathKind::offload_off, PathKind::delay};

}  // namespace

std::string_view to_string(PathKind kind) noexcept {
  switch (kind) {
    case PathKind::plain:
      return "plain";
    case PathKind::offload_off:
      return "offload-off";
    case PathKind::delay:
      return "delay";
  }
  return "unknown";
}

std::optional<PathKind> path_kind_from_string(std::string_view name) noexcept {
  for (const auto kind : kKinds)
    if (to_string(kind) == name) return kind;
  return std::nullopt;
}

Result<std::unique_ptr<Path>> Path::build(world::World& world, const PathOptions& options) {
  auto client = world::NetNamespace::make("client");
  if (!client) return client.error();
  std::unique_ptr<Path> path(new Path(std::move(*client)));
  const auto& own = path->client_;
  const auto& lan = world.lan();
  if (auto added = own.add_veth(kLink, lan, kPort); !added) return added.error();
  if (auto added = own.add_address(kLink, std::string(kClientAddress) + "/24"); !added)
    return added.error();
  if (options.kind == PathKind::plain) {
    if (auto joined = lan.join_bridge(kPort, kSwitch); !joined) return joined.error();
    return path;
  }
  if (auto off = own.set_offload(kLink, false); !off) return off.error();
  for (auto* host : {&world.alpha(), &world.beta()})
    if (auto off = host->net().set_offload(world::Host::kClientLink, false); !off)
      return off.error();
  if (options.kind == PathKind::offload_off) {
    if (auto joined = lan.join_bridge(kPort, kSwitch); !joined) return joined.error();
    return path;
  }
  if (auto added = lan.add_veth(kLineEnd, lan, kLinePort); !added) return added.error();
  if (auto off = lan.set_offload(kLinePort, false); !off) return off.error();
  if (auto joined = lan.join_bridge(kLinePort, kSwitch); !joined) return joined.error();
  world::DelayOptions delay;
  delay.delay = std::chrono::microseconds(options.round_trip) / 2;
  delay.loss = options.loss;
  delay.seed = options.seed;
  auto line = world::DelayLine::start(lan, kPort, kLineEnd, delay);
  if (!line) return line.error();
  path->line_ = std::move(*line);
  return path;
}

std::optional<world::DelayLineCounters> Path::line() {
  if (!line_) return std::nullopt;
  return line_->counters();
}

Result<std::uint64_t> checksum_errors(const world::NetNamespace& net) {
  Result<std::uint64_t> answer = Error{Errc::protocol, "/proc/net/snmp names no InCsumErrors"};
  std::thread([&] {
    if (auto entered = net.enter(); !entered) {
      answer = entered.error();
      return;
    }
    // A line with the names, and one with the numbers.
    std::ifstream file("/proc/thread-self/net/snmp");
    std::string names;
    for (std::string line; std::getline(file, line);) {
      if (!line.starts_with("Tcp:")) continue;
      if (names.empty()) {
        names = line;
        continue;
      }
      std::istringstream name_words(names);
      std::istringstream number_words(line);
      std::string name;
      std::string number;
      while (name_words >> name && number_words >> number)
        if (name == "InCsumErrors") answer = std::stoull(number);
    }
  }).join();
  return answer;
}

}  // namespace tandem::survival
