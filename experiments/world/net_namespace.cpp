#include "experiments/world/net_namespace.hpp"

#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <thread>

#include "experiments/world/process.hpp"

namespace tandem::world {

Result<NetNamespace> NetNamespace::make(std::string name) {
  // Namespaces belong to threads: one that unshares its own and ends leaves the descriptor that
  // keeps the new namespace alive, and the rest of the program where it was.
  UniqueFd fd;
  UniqueFd control;
  int problem = 0;
  std::thread([&] {
    if (::unshare(CLONE_NEWNET) != 0) {
      problem = errno;
      return;
    }
    fd.reset(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    control.reset(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (!fd || !control) problem = errno;
  }).join();
  if (problem != 0) return system_error("cannot make network namespace " + name, problem);
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0)
    return system_error("cannot identify network namespace " + name, errno);
  NetNamespace made(std::move(name), std::move(fd), std::move(control), status.st_ino);
  if (auto up = made.set_up("lo", true); !up) return up.error();
  return made;
}

Result<void> NetNamespace::enter() const {
  if (::setns(fd_.get(), CLONE_NEWNET) != 0)
    return system_error("cannot enter network namespace " + name_, errno);
  return {};
}

Result<UniqueFd> NetNamespace::open_socket(int domain, int type, int protocol) const {
  UniqueFd fd;
  Result<void> result;
  std::thread([&] {
    result = enter();
    if (!result) return;
    fd.reset(::socket(domain, type | SOCK_CLOEXEC, protocol));
    if (!fd) result = system_error("cannot open a socket in namespace " + name_, errno);
  }).join();
  if (!result) return result.error();
  return fd;
}

std::vector<pid_t> NetNamespace::processes() const {
  std::vector<pid_t> found;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", ignored)) {
    const std::string text = entry.path().filename();
    pid_t pid = 0;
    const auto [end, bad] = std::from_chars(text.data(), text.data() + text.size(), pid);
    if (bad != std::errc{} || end != text.data() + text.size()) continue;
    struct stat status {};
    // A process that has just ended has no namespace any more; that is not an error.
    if (::stat((entry.path() / "ns/net").c_str(), &status) == 0 && status.st_ino == inode_)
      found.push_back(pid);
  }
  return found;
}

Result<std::string> NetNamespace::tool(const char* program,
                                       std::vector<std::string> arguments) const {
  SpawnOptions options;
  options.argv = std::move(arguments);
  options.argv.insert(options.argv.begin(), program);
  options.net = this;
  auto said = run(std::move(options));
  if (!said) {
    if (said.error().code == Errc::not_found)
      return Error{Errc::not_found, std::string("there is no program ") + program +
                                        ": install the package iproute2"};
    return with_context("in namespace " + name_, said.error());
  }
  return said;
}

Result<std::string> NetNamespace::ip(std::vector<std::string> arguments) const {
  return tool("ip", std::move(arguments));
}

Result<std::string> NetNamespace::tc(std::vector<std::string> arguments) const {
  return tool("tc", std::move(arguments));
}

Result<void> NetNamespace::add_bridge(const std::string& bridge) const {
  auto added = ip({"link", "add", "name", bridge, "type", "bridge", "stp_state", "0",
                   "forward_delay", "0", "mcast_snooping", "0"});
  if (!added) return added.error();
  // Without addresses of its own the bridge sends nothing by itself.
  if (auto set = ip({"link", "set", "dev", bridge, "addrgenmode", "none"}); !set)
    return set.error();
  return set_up(bridge, true);
}

Result<void> NetNamespace::add_veth(const std::string& link, const NetNamespace& peer,
                                    const std::string& peer_link) const {
  const std::string peer_path =
      "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(peer.fd());
  auto added = ip(
      {"link", "add", "name", link, "type", "veth", "peer", "name", peer_link, "netns", peer_path});
  if (!added) return added.error();
  if (auto set = ip({"link", "set", "dev", link, "addrgenmode", "none"}); !set) return set.error();
  if (auto set = peer.ip({"link", "set", "dev", peer_link, "addrgenmode", "none"}); !set)
    return set.error();
  if (auto up = set_up(link, true); !up) return up;
  return peer.set_up(peer_link, true);
}

Result<void> NetNamespace::add_address(const std::string& link,
                                       const std::string& address_and_prefix) const {
  auto added = ip({"address", "add", address_and_prefix, "dev", link});
  if (!added) return added.error();
  return {};
}

Result<void> NetNamespace::join_bridge(const std::string& link, const std::string& bridge) const {
  auto joined = ip({"link", "set", "dev", link, "master", bridge});
  if (!joined) return joined.error();
  return {};
}

Result<void> NetNamespace::shape(const std::string& link, const std::string& rate) const {
  auto shaped = tc({"qdisc", "replace", "dev", link, "root", "tbf", "rate", rate, "burst", "1mb",
                    "latency", "50ms"});
  if (!shaped) return shaped.error();
  return {};
}

Result<void> NetNamespace::set_up(const std::string& link, bool up) const {
  ifreq request{};
  if (link.empty() || link.size() >= sizeof request.ifr_name)
    return Error{Errc::invalid_input, "\"" + link + "\" cannot be the name of a link"};
  std::memcpy(request.ifr_name, link.data(), link.size());
  if (::ioctl(control_.get(), SIOCGIFFLAGS, &request) != 0)
    return system_error("cannot read the state of link " + link + " in namespace " + name_, errno);
  const int flags = up ? request.ifr_flags | IFF_UP : request.ifr_flags & ~IFF_UP;
  request.ifr_flags = static_cast<short>(flags);
  if (::ioctl(control_.get(), SIOCSIFFLAGS, &request) != 0)
    return system_error(
        "cannot take link " + link + " in namespace " + name_ + (up ? " up" : " down"), errno);
  return {};
}

Result<void> NetNamespace::set_offload(const std::string& link, bool on) const {
  ifreq request{};
  if (link.empty() || link.size() >= sizeof request.ifr_name)
    return Error{Errc::invalid_input, "\"" + link + "\" cannot be the name of a link"};
  std::memcpy(request.ifr_name, link.data(), link.size());
  for (const std::uint32_t command :
       {ETHTOOL_SRXCSUM, ETHTOOL_STXCSUM, ETHTOOL_STSO, ETHTOOL_SGSO, ETHTOOL_SGRO}) {
    ethtool_value value{command, on ? 1U : 0U};
    request.ifr_data = reinterpret_cast<char*>(&value);
    // Without complete checksums there is no segmentation; where it is fixed, it is off already.
    const bool optional = command == ETHTOOL_SRXCSUM || command == ETHTOOL_STSO;
    if (::ioctl(control_.get(), SIOCETHTOOL, &request) != 0 && !optional)
      return system_error("cannot set the offload of link " + link + " in namespace " + name_,
                          errno);
  }
  return {};
}

}  // namespace tandem::world
