#include "engine/transport/link_watch.hpp"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <linux/ethtool.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <array>
#include <boost/asio/steady_timer.hpp>
#include <cerrno>
#include <cstring>

#include "base/unique_fd.hpp"

namespace tandem::transport {
namespace {

std::string text_of(const sockaddr* address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const void* bytes = nullptr;
  if (address->sa_family == AF_INET) {
    bytes = &reinterpret_cast<const sockaddr_in*>(address)->sin_addr;
  } else if (address->sa_family == AF_INET6) {
    bytes = &reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr;
  }
  if (bytes == nullptr ||
      ::inet_ntop(address->sa_family, bytes, text.data(), text.size()) == nullptr) {
    return {};
  }
  return text.data();
}

std::string interface_with(const std::string& address) {
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return {};
  const std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)> owner(list, &::freeifaddrs);
  for (const auto* entry = list; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr != nullptr && text_of(entry->ifa_addr) == address) return entry->ifa_name;
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<LinkWatch>> LinkWatch::open(const asio::any_io_executor& executor,
                                                   const std::string& local_address) {
  const auto interface = interface_with(local_address);
  if (interface.empty())
    return Error{Errc::not_found, "no interface has the address " + local_address};
  UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE));
  if (!fd) return system_error("netlink", errno);
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = RTMGRP_LINK;
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return system_error("netlink", errno);
  }
  std::unique_ptr<LinkWatch> watch(new LinkWatch(executor, interface));
  watch->netlink_.assign(fd.release());
  return watch;
}

bool LinkWatch::has_carrier() const {
  // The driver's own word: the flags that `ip` shows follow it by up to a second.
  ethtool_value link{ETHTOOL_GLINK, 1};
  ifreq request{};
  std::strncpy(request.ifr_name, interface_.c_str(), IFNAMSIZ - 1);
  request.ifr_data = reinterpret_cast<char*>(&link);
  const UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  // An interface that cannot be asked is not known to be down.
  return ::ioctl(socket.get(), SIOCETHTOOL, &request) != 0 || link.data != 0;
}

Task<bool> LinkWatch::wait_until_down(std::chrono::milliseconds debounce) {
  // What a message says is not read: it means "look again", also when some were lost.
  std::array<char, 16384> messages;
  bool was_up = false;  // a link that is down from the beginning cannot be lost
  for (;;) {
    const bool up = has_carrier();
    was_up = was_up || up;
    if (was_up && !up) {
      asio::steady_timer timer(netlink_.get_executor(), debounce);
      co_await timer.async_wait(use_tuple);
      if (!netlink_.is_open()) co_return false;
      if (!has_carrier()) co_return true;
      continue;
    }
    const auto [ec] =
        co_await netlink_.async_wait(asio::posix::stream_descriptor::wait_read, use_tuple);
    if (ec || !netlink_.is_open()) co_return false;
    while (::recv(netlink_.native_handle(), messages.data(), messages.size(), 0) > 0) {
    }
  }
}

void LinkWatch::close() {
  boost::system::error_code ignored;
  netlink_.close(ignored);
}

}  // namespace tandem::transport
