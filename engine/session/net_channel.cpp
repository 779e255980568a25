#include "engine/session/net_channel.hpp"

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cerrno>
#include <chrono>

#include "qmp/commands.hpp"

namespace tandem::session {
namespace {

constexpr auto inject_poll = std::chrono::microseconds(500);
constexpr auto inject_wait_max = std::chrono::milliseconds(500);

/// Adds a socket chardev `id` whose other end is returned.
Task<Result<UniqueFd>> add_chardev(qmp::Client& qmp, std::string id) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0) {
    co_return system_error("cannot make a socket pair", errno);
  }
  UniqueFd ours(ends[0]);
  const UniqueFd qemus(ends[1]);
  const auto named = co_await qmp::getfd(qmp, id, qemus.get());
  if (!named) co_return named.error();
  const auto added = co_await qmp::add_fd_chardev(qmp, id, id);
  if (!added) co_return added.error();
  co_return ours;
}

}  // namespace

NetChannel::NetChannel(asio::any_io_executor executor, std::string netdev, Side side,
                       proxy::GateLimits limits)
    : netdev_(std::move(netdev)),
      side_(side),
      gate_(limits),
      capture_(executor),
      inject_(executor) {}

std::string NetChannel::id(std::string_view part) const {
  return std::string(object_prefix) + netdev_ + "-" + std::string(part);
}

Task<Result<std::shared_ptr<NetChannel>>> NetChannel::attach(qmp::Client& qmp, std::string netdev,
                                                             Side side, proxy::GateLimits limits) {
  const auto executor = co_await asio::this_coro::executor;
  std::shared_ptr<NetChannel> channel(new NetChannel(executor, std::move(netdev), side, limits));
  const auto what = "network filters of " + channel->netdev_;

  auto result = Result<void>();
  const bool with_inject = side == Side::primary;
  auto capture = co_await add_chardev(qmp, channel->id("capture"));
  if (!capture) co_return with_context(what, capture.error());
  channel->capture_.assign(capture->release());
  if (with_inject) {
    auto inject = co_await add_chardev(qmp, channel->id("inject"));
    if (inject) {
      channel->inject_.assign(inject->release());
      // Inject stands before capture in the queue, or a released frame would be captured again.
      result = co_await qmp::add_filter_redirector(qmp, channel->id("inject"), channel->netdev_,
                                                   qmp::FilterQueue::rx, channel->id("inject"), "");
    } else {
      result = inject.error();
    }
  }
  if (result) {
    result = co_await qmp::add_filter_redirector(qmp, channel->id("capture"), channel->netdev_,
                                                 qmp::FilterQueue::rx, "", channel->id("capture"));
  }
  if (!result) {
    (void)co_await channel->detach(qmp);
    co_return with_context(what, result.error());
  }
  co_return channel;
}

Result<std::uint64_t> NetChannel::drain() {
  std::array<std::byte, 65536> piece;
  const auto before = gate_.counters().captured_frames;
  for (;;) {
    const auto n = ::recv(capture_.native_handle(), piece.data(), piece.size(), MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
    if (n < 0) return system_error("capture socket of " + netdev_, errno);
    if (n == 0) return Error{Errc::closed, "capture socket of " + netdev_ + " was closed by QEMU"};
    const auto taken = gate_.capture(std::span(piece).first(static_cast<std::size_t>(n)));
    if (!taken) return taken.error();
    if (side_ == Side::secondary) gate_.discard();
  }
  flush();
  return gate_.counters().captured_frames - before;
}

Task<void> NetChannel::pump(ErrorHandler on_error, std::function<void()> on_soft_limit) {
  const auto keep_alive = shared_from_this();
  if (side_ == Side::secondary) gate_.hold();
  for (;;) {
    const auto [ec] =
        co_await capture_.async_wait(asio::posix::stream_descriptor::wait_read, use_tuple);
    if (ec || !capture_.is_open()) co_return;
    const auto drained = drain();
    if (!drained) {
      on_error(drained.error());
      co_return;
    }
    if (gate_.wants_checkpoint()) on_soft_limit();
  }
}

void NetChannel::flush() {
  if (flushing_ || !inject_.is_open()) return;
  while (!gate_.outbox().empty()) {
    const auto out = gate_.outbox();
    const auto n =
        ::send(inject_.native_handle(), out.data(), out.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n >= 0) {
      gate_.consume(static_cast<std::size_t>(n));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      flushing_ = true;
      asio::co_spawn(inject_.get_executor(), flush_rest(), asio::detached);
      return;
    } else if (errno != EINTR) {
      return;  // QEMU has gone; its monitor says so
    }
  }
}

Task<void> NetChannel::flush_rest() {
  const auto keep_alive = shared_from_this();
  const auto [ec] =
      co_await inject_.async_wait(asio::posix::stream_descriptor::wait_write, use_tuple);
  flushing_ = false;
  if (!ec) flush();
}

Task<Result<void>> NetChannel::open_and_detach(qmp::Client& qmp) {
  gate_.open();
  flush();
  // From here on new output goes straight to the network, behind what is already in inject's socket
  // only if that is empty first; so what capture still holds is injected before inject goes.
  auto result = co_await qmp::delete_object(qmp, id("capture"));
  const auto drained = drain();
  if (!drained && result) result = drained.error();

  asio::steady_timer timer(co_await asio::this_coro::executor);
  const auto deadline = std::chrono::steady_clock::now() + inject_wait_max;
  for (;;) {
    int unread = 0;
    const bool known = ::ioctl(inject_.native_handle(), SIOCOUTQ, &unread) == 0;
    if (gate_.outbox().empty() && (!known || unread == 0)) break;
    if (std::chrono::steady_clock::now() > deadline) break;  // QEMU does not read; the rest is lost
    timer.expires_after(inject_poll);
    co_await timer.async_wait(use_tuple);
  }
  const auto rest = co_await detach(qmp);
  co_return result ? rest : result;
}

Task<Result<void>> NetChannel::detach(qmp::Client& qmp) {
  // Every step is tried: each is harmless where its object is gone already.
  (void)co_await qmp::delete_object(qmp, id("capture"));
  (void)co_await qmp::delete_object(qmp, id("inject"));
  auto result = Result<void>();
  for (const auto* part : {"capture", "inject"}) {
    if (side_ == Side::secondary && std::string_view(part) == "inject") continue;
    const auto removed = co_await qmp::remove_chardev(qmp, id(part));
    if (!removed && result) result = removed;
  }
  close();
  co_return result;
}

void NetChannel::close() {
  boost::system::error_code ignored;
  capture_.close(ignored);
  inject_.close(ignored);
}

Task<Result<void>> remove_leftover_filters(qmp::Client& qmp) {
  auto objects = co_await qmp::list_objects(qmp);
  if (!objects) co_return objects.error();
  const auto ours = [](const std::string& id) { return id.starts_with(object_prefix); };
  std::ranges::stable_partition(*objects, [](const auto& id) { return id.ends_with("-capture"); });
  auto result = Result<void>();
  for (const auto& id : *objects) {
    if (!ours(id)) continue;
    const auto removed = co_await qmp::delete_object(qmp, id);
    if (!removed && result) result = removed;
  }
  const auto chardevs = co_await qmp::query_chardevs(qmp);
  if (!chardevs) co_return chardevs.error();
  for (const auto& id : *chardevs) {
    if (!ours(id)) continue;
    const auto removed = co_await qmp::remove_chardev(qmp, id);
    if (!removed && result) result = removed;
  }
  co_return result;
}

}  // namespace tandem::session
