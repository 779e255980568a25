#include "engine/hypervisor/tap.hpp"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <optional>

#include "engine/hypervisor/local_hypervisor.hpp"

namespace tandem::hypervisor {
namespace {

Result<void> check_name(const std::string& name) {
  if (name.empty() || name.size() >= IFNAMSIZ) {
    return Error{Errc::invalid_input, "'" + name +
                                          "' cannot be a network interface: expected 1 to " +
                                          std::to_string(IFNAMSIZ - 1) + " characters"};
  }
  return {};
}

/// `name` must have been checked.
ifreq request_for(const std::string& name) {
  ifreq request{};
  std::memcpy(request.ifr_name, name.data(), name.size());
  return request;
}

Error interface_error(const std::string& what, int error) {
  if (error == EPERM || error == EACCES) {
    return {Errc::permission,
            what +
                ": the capability CAP_NET_ADMIN is missing: run as root, or grant it "
                "(systemd: AmbientCapabilities=CAP_NET_ADMIN)"};
  }
  return system_error(what, error);
}

Result<UniqueFd> control_socket() {
  UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd) return system_error("cannot make a socket", errno);
  return fd;
}

Result<int> index_of(const std::string& name) {
  if (auto r = check_name(name); !r) return r.error();
  auto control = control_socket();
  if (!control) return control.error();
  auto request = request_for(name);
  if (::ioctl(control->get(), SIOCGIFINDEX, &request) != 0) {
    if (errno == ENODEV) return Error{Errc::not_found, "there is no network interface " + name};
    return system_error("cannot look up network interface " + name, errno);
  }
  return request.ifr_ifindex;
}

/// The host is no party on a guest's wire; left alone, it sends its own IPv6 discovery there. That
/// is noise and no more, so that where it cannot be stopped (no IPv6 in the kernel, /proc/sys
/// read-only in a container) it is left.
void silence_ipv6(const std::string& name) {
  const auto path = "/proc/sys/net/ipv6/conf/" + name + "/disable_ipv6";
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (fd) static_cast<void>(!::write(fd.get(), "1", 1));
}

/// RTM_SETLINK with IFLA_MASTER (rtnetlink(7)): master 0 takes the link off whatever bridge it is
/// on, which the older ioctl needs to be told. Returns an errno, or nothing.
Result<std::optional<int>> set_master(int link, int master) {
  struct Request {
    nlmsghdr header;
    ifinfomsg link;
    rtattr attribute;
    std::uint32_t master;
  };
  static_assert(sizeof(Request) ==
                NLMSG_LENGTH(sizeof(ifinfomsg)) + RTA_LENGTH(sizeof(std::uint32_t)));
  Request request{};
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = RTM_SETLINK;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
  request.header.nlmsg_seq = 1;
  request.link.ifi_family = AF_UNSPEC;
  request.link.ifi_index = link;
  request.attribute.rta_type = IFLA_MASTER;
  request.attribute.rta_len = RTA_LENGTH(sizeof request.master);
  request.master = static_cast<std::uint32_t>(master);

  const UniqueFd socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!socket) return system_error("cannot open a netlink socket", errno);
  if (::send(socket.get(), &request, sizeof request, 0) != sizeof request) {
    return system_error("cannot write to the netlink socket", errno);
  }
  alignas(nlmsghdr) std::array<char, 8192> answer{};
  const auto length = ::recv(socket.get(), answer.data(), answer.size(), 0);
  if (length < 0) return system_error("cannot read from the netlink socket", errno);
  const auto* header = reinterpret_cast<const nlmsghdr*>(answer.data());
  if (static_cast<std::size_t>(length) < NLMSG_LENGTH(sizeof(nlmsgerr)) ||
      header->nlmsg_type != NLMSG_ERROR) {
    return Error{Errc::protocol,
                 "the kernel answered RTM_SETLINK with something else than an acknowledgement"};
  }
  nlmsgerr error{};
  std::memcpy(&error, answer.data() + NLMSG_HDRLEN, sizeof error);
  if (error.error == 0) return std::optional<int>();
  return std::optional<int>(-error.error);
}

}  // namespace

Result<UniqueFd> make_tap(const std::string& name) {
  if (auto r = check_name(name); !r) return r.error();
  const auto what = "cannot make the tap device " + name;
  UniqueFd fd(::open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK));
  if (!fd) {
    if (errno == ENOENT || errno == ENODEV) {
      return Error{Errc::unavailable,
                   what + ": /dev/net/tun is missing: load the kernel module tun (modprobe tun)"};
    }
    return interface_error(what + ": /dev/net/tun", errno);
  }
  auto request = request_for(name);
  request.ifr_flags = static_cast<short>(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
  if (::ioctl(fd.get(), TUNSETIFF, &request) != 0) {
    if (errno == EBUSY || errno == EEXIST) {
      return Error{Errc::conflict, what + ": the name is in use: is the VM running already?"};
    }
    if (errno == EINVAL) {
      return Error{Errc::conflict, what + ": another kind of interface has this name"};
    }
    return interface_error(what, errno);
  }
  silence_ipv6(name);
  auto control = control_socket();
  if (!control) return control.error();
  if (::ioctl(control->get(), SIOCGIFFLAGS, &request) != 0) return interface_error(what, errno);
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
  if (::ioctl(control->get(), SIOCSIFFLAGS, &request) != 0) return interface_error(what, errno);
  return fd;
}

Result<void> set_bridge(const std::string& tap, const std::string& bridge) {
  const auto what = bridge.empty() ? "cannot take " + tap + " off its bridge"
                                   : "cannot join " + tap + " to " + bridge;
  const auto link = index_of(tap);
  if (!link) return with_context(what, link.error());
  int master = 0;
  if (!bridge.empty()) {
    const auto found = index_of(bridge);
    if (!found) return with_context(what, found.error());
    master = *found;
  }
  const auto failure = set_master(*link, master);
  if (!failure) return with_context(what, failure.error());
  if (!failure->has_value()) return {};
  switch (**failure) {
    case EOPNOTSUPP:
    case EINVAL:
      return Error{Errc::invalid_input, what + ": " + bridge + " is not a bridge"};
    case ENODEV:
      return Error{Errc::not_found, what + ": one of them is gone"};
    case EBUSY:
      return Error{Errc::conflict, what + ": " + tap + " is in use by something else"};
    default:
      return interface_error(what, **failure);
  }
}

}  // namespace tandem::hypervisor
