#include "experiments/world/packet_socket.hpp"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace tandem::world {

Result<UniqueFd> listen_on_link(const NetNamespace& net, const std::string& link) {
  auto socket = net.open_socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0);
  if (!socket) return socket.error();
  ifreq request{};
  if (link.empty() || link.size() >= sizeof request.ifr_name)
    return Error{Errc::invalid_input, "\"" + link + "\" cannot be the name of a link"};
  std::memcpy(request.ifr_name, link.data(), link.size());
  if (::ioctl(socket->get(), SIOCGIFINDEX, &request) != 0)
    return system_error("there is no link " + link + " in namespace " + net.name(), errno);
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(ETH_P_ALL);
  address.sll_ifindex = request.ifr_ifindex;
  if (::bind(socket->get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return system_error("cannot listen on link " + link, errno);
  return socket;
}

}  // namespace tandem::world
