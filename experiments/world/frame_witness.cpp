#include "experiments/world/frame_witness.hpp"

#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "experiments/world/packet_socket.hpp"

namespace tandem::world {
std::optional<MacAddress> parse_mac(const std::string& text) {
  MacAddress mac{};
  int used = 0;
  if (std::sscanf(text.c_str(), "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &mac[0], &mac[1], &mac[2],
                  &mac[3], &mac[4], &mac[5], &used) != 6 ||
      static_cast<std::size_t>(used) != text.size() || text.size() != 17)
    return std::nullopt;
  return mac;
}

Result<std::unique_ptr<FrameWitness>> FrameWitness::start(const NetNamespace& net,
                                                          const std::vector<std::string>& ports,
                                                          const MacAddress& source) {
  std::unique_ptr<FrameWitness> witness(new FrameWitness);
  witness->source_ = source;
  witness->seen_.resize(ports.size());
  for (const auto& port : ports) {
    auto socket = listen_on_link(net, port);
    if (!socket) return socket.error();
    witness->sockets_.push_back(std::move(*socket));
  }
  witness->stop_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!witness->stop_) return system_error("cannot make an event", errno);
  witness->thread_ = std::thread([raw = witness.get()] { raw->watch(); });
  return witness;
}

FrameWitness::~FrameWitness() {
  if (!thread_.joinable()) return;
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(stop_.get(), &one, sizeof one);
  thread_.join();
}

void FrameWitness::mark() {
  const std::lock_guard lock(mutex_);
  for (auto& sighting : seen_) sighting = {};
}

std::vector<FrameWitness::Sighting> FrameWitness::sightings() const {
  const std::lock_guard lock(mutex_);
  return seen_;
}

void FrameWitness::watch() {
  std::vector<pollfd> waiting;
  for (const auto& socket : sockets_) waiting.push_back({socket.get(), POLLIN, 0});
  waiting.push_back({stop_.get(), POLLIN, 0});
  // Only the Ethernet header is of interest; the rest of each frame is cut off.
  std::array<std::uint8_t, ETH_HLEN> header{};
  for (;;) {
    if (::poll(waiting.data(), waiting.size(), -1) < 0 && errno != EINTR) return;
    if (waiting.back().revents != 0) return;
    for (std::size_t port = 0; port < sockets_.size(); ++port) {
      if (waiting[port].revents == 0) continue;
      for (;;) {
        sockaddr_ll from{};
        socklen_t length = sizeof from;
        const ssize_t got = ::recvfrom(sockets_[port].get(), header.data(), header.size(), 0,
                                       reinterpret_cast<sockaddr*>(&from), &length);
        if (got < 0 && errno == ENETDOWN) continue;  // the cable was cut; it may come back
        if (got < 0) break;
        if (from.sll_pkttype == PACKET_OUTGOING || got < ETH_HLEN ||
            std::memcmp(&header[6], source_.data(), source_.size()) != 0)
          continue;
        const auto now = Clock::now();
        const std::lock_guard lock(mutex_);
        auto& sighting = seen_[port];
        ++sighting.frames;
        if (!sighting.first) sighting.first = now;
        sighting.last = now;
      }
    }
  }
}

}  // namespace tandem::world
