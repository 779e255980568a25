#include "experiments/bench/pause_bench_stream.hpp"

#include <arpa/inet.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

namespace tandem::bench {
namespace {

constexpr std::uint16_t kPort = 7171;

}  // namespace

Result<StreamEnds> connect_over_tcp(const world::NetNamespace& primary,
                                    const world::NetNamespace& secondary,
                                    const std::string& address) {
  sockaddr_in where{};
  where.sin_family = AF_INET;
  where.sin_port = htons(kPort);
  if (::inet_pton(AF_INET, address.c_str(), &where.sin_addr) != 1)
    return Error{Errc::invalid_input, address + " is not an IPv4 address"};
  const auto* generic = reinterpret_cast<const sockaddr*>(&where);

  auto listener = secondary.open_socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (!listener) return listener.error();
  const int on = 1;
  if (::setsockopt(listener->get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      ::bind(listener->get(), generic, sizeof where) != 0 || ::listen(listener->get(), 1) != 0)
    return system_error("cannot listen for stock QEMU's stream", errno);
  auto from = primary.open_socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (!from) return from.error();
  if (::connect(from->get(), generic, sizeof where) != 0)
    return system_error("cannot connect stock QEMU's stream", errno);
  UniqueFd to(::accept4(listener->get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!to) return system_error("cannot accept stock QEMU's stream", errno);
  for (const int fd : {from->get(), to.get()})
    if (::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0)
      return system_error("cannot switch Nagle's algorithm off", errno);
  return StreamEnds{std::move(*from), std::move(to)};
}

Result<StreamEnds> connect_locally() {
  std::array<int, 2> fds{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()) != 0)
    return system_error("cannot make a socket pair", errno);
  return StreamEnds{UniqueFd(fds[0]), UniqueFd(fds[1])};
}

Result<std::uint64_t> acknowledged_bytes(const UniqueFd& tcp) {
  tcp_info info{};
  socklen_t size = sizeof info;
  if (::getsockopt(tcp.get(), IPPROTO_TCP, TCP_INFO, &info, &size) != 0)
    return system_error("cannot count the bytes of stock QEMU's stream", errno);
  return std::uint64_t{info.tcpi_bytes_acked};
}

}  // namespace tandem::bench
