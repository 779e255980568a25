#include "experiments/world/world.hpp"

#include <stdlib.h>

#include <cerrno>
#include <stdexcept>

namespace tandem::world {
namespace {

struct Side {
  const char* name;
  const char* peer;
  const char* address;
  const char* peer_address;
  const char* port;
};

constexpr Side kAlpha{"alpha", "beta", "10.77.0.1", "10.77.0.2", World::kAlphaPort};
constexpr Side kBeta{"beta", "alpha", "10.77.0.2", "10.77.0.1", World::kBetaPort};

Result<std::unique_ptr<Host>> make_host(const Side& side, const std::filesystem::path& directory,
                                        const NetNamespace& lan) {
  auto net = NetNamespace::make(side.name);
  if (!net) return net.error();
  if (auto added = net->add_bridge(Host::kBridge); !added) return added.error();
  if (auto added = net->add_veth(Host::kClientLink, lan, side.port); !added) return added.error();
  if (auto joined = net->join_bridge(Host::kClientLink, Host::kBridge); !joined)
    return joined.error();
  if (auto joined = lan.join_bridge(side.port, "sw0"); !joined) return joined.error();

  DaemonPlace place;
  place.host = side.name;
  place.peer = side.peer;
  place.listen = std::string(side.address) + ":7070";
  place.peer_address = std::string(side.peer_address) + ":7070";
  const auto own = directory / side.name;
  place.state_dir = own / "state";
  place.run_dir = own / "run";
  place.api_socket = own / "api.sock";
  place.arbiter_dir = directory / "arbiter";
  std::error_code problem;
  for (const auto& folder : {place.state_dir, place.run_dir, place.arbiter_dir}) {
    std::filesystem::create_directories(folder, problem);
    if (problem) return system_error("cannot make " + folder.string(), problem.value());
  }
  return std::make_unique<Host>(std::move(*net), own, std::move(place));
}

Result<void> join_hosts(const NetNamespace& alpha, const NetNamespace& beta,
                        const NetNamespace& lan, Cabling cabling) {
  const std::string link = Host::kReplicationLink;
  if (cabling == Cabling::direct) return alpha.add_veth(link, beta, link);
  const std::string hub = "sw1";  // a switch of its own, beside the clients'
  if (auto added = lan.add_bridge(hub); !added) return added;
  for (const auto& [net, port] : {std::pair(&alpha, "rep-alpha"), std::pair(&beta, "rep-beta")}) {
    if (auto added = net->add_veth(link, lan, port); !added) return added;
    if (auto joined = lan.join_bridge(port, hub); !joined) return joined;
  }
  return {};
}

}  // namespace

Result<World> World::make(WorldOptions options) {
  World world;
  std::string directory = (options.parent / "tnd-XXXXXX").string();
  if (directory.size() > 40)
    return Error{Errc::limit, "the folder " + options.parent.string() +
                                  " has too long a name for the unix sockets that are made in it"};
  if (::mkdtemp(directory.data()) == nullptr)
    return system_error("cannot make a folder " + directory, errno);
  world.directory_ = directory;
  world.keep_ = options.keep;

  auto lan = NetNamespace::make("lan");
  if (!lan) return lan.error();
  world.lan_ = std::make_unique<NetNamespace>(std::move(*lan));
  if (auto added = world.lan_->add_bridge("sw0"); !added) return added.error();
  if (auto added = world.lan_->add_address("sw0", std::string(kClientAddress) + "/24"); !added)
    return added.error();

  auto alpha = make_host(kAlpha, world.directory_, *world.lan_);
  if (!alpha) return alpha.error();
  auto beta = make_host(kBeta, world.directory_, *world.lan_);
  if (!beta) return beta.error();
  world.alpha_ = std::move(*alpha);
  world.beta_ = std::move(*beta);

  const std::string link = Host::kReplicationLink;
  const auto& alpha_net = world.alpha_->net();
  const auto& beta_net = world.beta_->net();
  if (auto joined = join_hosts(alpha_net, beta_net, *world.lan_, options.cabling); !joined)
    return joined.error();
  if (auto set = alpha_net.add_address(link, std::string(kAlpha.address) + "/24"); !set)
    return set.error();
  if (auto set = beta_net.add_address(link, std::string(kBeta.address) + "/24"); !set)
    return set.error();
  if (!options.replication_rate.empty()) {
    if (auto set = alpha_net.shape(link, options.replication_rate); !set) return set.error();
    if (auto set = beta_net.shape(link, options.replication_rate); !set) return set.error();
  }
  return world;
}

World::~World() {
  if (directory_.empty()) return;
  // The hosts' processes hold files in the directory; they end first.
  for (auto* host : {alpha_.get(), beta_.get()})
    if (host != nullptr) [[maybe_unused]]
      const auto ended = host->kill_everything();
  std::error_code ignored;
  if (!keep_) std::filesystem::remove_all(directory_, ignored);
}

Host& World::host(const std::string& name) {
  if (name == kAlpha.name) return *alpha_;
  if (name == kBeta.name) return *beta_;
  throw std::invalid_argument("the world has no host " + name);
}

}  // namespace tandem::world
