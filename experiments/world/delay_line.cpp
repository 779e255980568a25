#include "experiments/world/delay_line.hpp"

#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>

#include "experiments/world/packet_socket.hpp"

namespace tandem::world {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int socket_buffer_bytes = 16 << 20;
constexpr std::size_t frame_bytes_max = 65'536;
// As much as is taken from one link before the other has its turn.
constexpr int frames_a_turn = 256;

DelayOptions with_seed(DelayOptions options, std::uint64_t seed) {
  options.seed = seed;
  return options;
}

}  // namespace

DelayLine::DelayLine(const DelayOptions& options)
    : queues_{DelayQueue(options), DelayQueue(with_seed(options, ~options.seed))} {}

Result<std::unique_ptr<DelayLine>> DelayLine::start(const NetNamespace& net,
                                                    const std::string& first,
                                                    const std::string& second,
                                                    const DelayOptions& options) {
  std::unique_ptr<DelayLine> line(new DelayLine(options));
  for (std::size_t side = 0; side < 2; ++side) {
    auto socket = listen_on_link(net, side == 0 ? first : second);
    if (!socket) return socket.error();
    line->sockets_[side] = std::move(*socket);
    const int fd = line->sockets_[side].get();
    const int size = socket_buffer_bytes;
    // Whoever may not exceed the system's limit has to live with that limit.
    for (const auto& [forced, plain] :
         {std::pair(SO_RCVBUFFORCE, SO_RCVBUF), std::pair(SO_SNDBUFFORCE, SO_SNDBUF)})
      if (::setsockopt(fd, SOL_SOCKET, forced, &size, sizeof size) != 0)
        ::setsockopt(fd, SOL_SOCKET, plain, &size, sizeof size);
  }
  line->stop_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!line->stop_) return system_error("cannot make an event", errno);
  line->thread_ = std::thread([raw = line.get()] { raw->run(); });
  return line;
}

DelayLine::~DelayLine() {
  if (!thread_.joinable()) return;
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(stop_.get(), &one, sizeof one);
  thread_.join();
}

DelayLineCounters DelayLine::counters() {
  const std::lock_guard lock(mutex_);
  for (const auto& socket : sockets_) {
    tpacket_stats stats{};
    socklen_t length = sizeof stats;
    // The kernel counts from the last time it was asked.
    if (::getsockopt(socket.get(), SOL_PACKET, PACKET_STATISTICS, &stats, &length) == 0)
      overtaken_ += stats.tp_drops;
  }
  return {queues_[0].counters(), queues_[1].counters(), unsent_, overtaken_};
}

void DelayLine::run() {
  std::array<pollfd, 3> waiting{pollfd{sockets_[0].get(), POLLIN, 0},
                                pollfd{sockets_[1].get(), POLLIN, 0},
                                pollfd{stop_.get(), POLLIN, 0}};
  for (;;) {
    std::optional<DelayQueue::Time> due;
    for (const auto& queue : queues_) {
      const auto next = queue.due();
      if (next && (!due || *next < *due)) due = next;
    }
    timespec timeout{};
    if (due) {
      const auto left = std::max(Clock::duration::zero(), Clock::duration(*due - Clock::now()));
      const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
      timeout = {seconds.count(), std::chrono::nanoseconds(left - seconds).count()};
    }
    ::ppoll(waiting.data(), waiting.size(), due ? &timeout : nullptr, nullptr);
    if (waiting[2].revents != 0) return;
    const std::lock_guard lock(mutex_);
    for (std::size_t side = 0; side < 2; ++side) {
      if (waiting[side].revents != 0) take_in(side);
      give_out(side);
    }
  }
}

void DelayLine::take_in(std::size_t side) {
  static thread_local std::array<std::byte, frame_bytes_max> frame;
  for (int i = 0; i < frames_a_turn; ++i) {
    sockaddr_ll from{};
    socklen_t length = sizeof from;
    const auto got = ::recvfrom(sockets_[side].get(), frame.data(), frame.size(), 0,
                                reinterpret_cast<sockaddr*>(&from), &length);
    if (got < 0 && errno == ENETDOWN) continue;
    if (got < 0) return;
    // A packet socket sees what leaves through its link, too, this line's own frames among it.
    if (from.sll_pkttype == PACKET_OUTGOING) continue;
    queues_[side].push({frame.data(), static_cast<std::size_t>(got)}, Clock::now());
  }
}

void DelayLine::give_out(std::size_t side) {
  auto& queue = queues_[side];
  const auto now = Clock::now();
  for (auto frame = queue.front(now); !frame.empty(); frame = queue.front(now)) {
    const auto sent = ::send(sockets_[1 - side].get(), frame.data(), frame.size(), 0);
    if (sent < 0) ++unsent_;
    queue.pop();
  }
}

}  // namespace tandem::world
