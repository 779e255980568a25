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

#include "base/unique_fd.hpp"
#include "qmp/commands.hpp"

namespace tandem::session {
namespace {

using std::chrono::steady_clock;

constexpr std::size_t receive_piece = 64u << 10;
constexpr int pump_reads_max = 32;
constexpr std::size_t feed_bytes_max = 4u << 20;
constexpr auto sink_poll = std::chrono::microseconds(500);
constexpr auto sink_wait_max = std::chrono::milliseconds(500);
/// QEMU writes a frame in one go; if one is cut where its epoch ends, its rest is a moment away.
constexpr int cut_frame_tries = 1000;

}  // namespace

NetChannel::NetChannel(asio::any_io_executor executor, std::string netdev, Role role,
                       ChannelSettings settings)
    : netdev_(std::move(netdev)),
      role_(role),
      comparer_(settings.compare),
      gate_(settings.gate),
      capture_{"capture", asio::posix::stream_descriptor(executor), {}},
      intake_{"intake", asio::posix::stream_descriptor(executor), {}},
      mirror_{"mirror", asio::posix::stream_descriptor(executor), {}},
      inject_{"inject", asio::posix::stream_descriptor(executor)},
      feed_{{"feed", asio::posix::stream_descriptor(executor)}, {}},
      received_(receive_piece),
      counted_(std::move(settings.counted)) {}

std::string NetChannel::id(std::string_view part) const {
  return std::string(object_prefix) + netdev_ + "-" + std::string(part);
}

// ---- to QEMU and away from it

namespace {

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

Task<Result<void>> NetChannel::add_source(qmp::Client& qmp, Source& source) {
  auto socket = co_await add_chardev(qmp, id(source.part));
  if (!socket) co_return socket.error();
  source.socket.assign(socket->release());
  source.frames = {};
  const bool mirrors = &source == &mirror_;
  const auto queue = &source == &capture_ ? qmp::FilterQueue::rx : qmp::FilterQueue::tx;
  start_pump(source);
  if (mirrors) {
    // Ahead of intake: the secondary is to see what clients send, not what a translator makes of
    // it.
    co_return co_await qmp::add_filter_mirror(qmp, id(source.part), netdev_, queue, id(source.part),
                                              qmp::FilterPosition::head);
  }
  co_return co_await qmp::add_filter_redirector(qmp, id(source.part), netdev_, queue, "",
                                                id(source.part));
}

Task<Result<void>> NetChannel::add_sink(qmp::Client& qmp, Sink& sink) {
  auto socket = co_await add_chardev(qmp, id(sink.part));
  if (!socket) co_return socket.error();
  sink.socket.assign(socket->release());
  const auto queue = &sink == &inject_ ? qmp::FilterQueue::rx : qmp::FilterQueue::tx;
  co_return co_await qmp::add_filter_redirector(qmp, id(sink.part), netdev_, queue, id(sink.part),
                                                "");
}

Task<Result<void>> NetChannel::attach(qmp::Client& qmp) {
  // The order in which packets meet the filters: from the head for the guest, from the tail for
  // those it sends. What is put in must not be taken out again: inject before capture, feed after
  // intake.
  auto attached = co_await add_sink(qmp, inject_);
  if (attached) attached = co_await add_source(qmp, capture_);
  const bool both_ways = role_ != Role::primary;
  if (attached && both_ways) attached = co_await add_source(qmp, intake_);
  if (attached && both_ways) attached = co_await add_sink(qmp, feed_);
  if (attached) co_return attached;
  (void)co_await detach(qmp);
  co_return with_context("network filters of " + netdev_, attached.error());
}

Task<Result<NetChannel::Pointer>> NetChannel::attach_primary(qmp::Client& qmp, std::string netdev,
                                                             ChannelSettings settings) {
  const auto executor = co_await asio::this_coro::executor;
  Pointer channel(new NetChannel(executor, std::move(netdev), Role::primary, settings));
  const auto attached = co_await channel->attach(qmp);
  if (!attached) co_return attached.error();
  co_return channel;
}

Task<Result<NetChannel::Pointer>> NetChannel::attach_secondary(qmp::Client& qmp, std::string netdev,
                                                               ChannelSettings settings) {
  const auto executor = co_await asio::this_coro::executor;
  Pointer channel(new NetChannel(executor, std::move(netdev), Role::secondary, settings));
  const auto attached = co_await channel->attach(qmp);
  if (!attached) co_return attached.error();
  co_return channel;
}

Task<Result<NetChannel::Pointer>> NetChannel::attach_solo(qmp::Client& qmp, std::string netdev,
                                                          const proxy::TranslationTable& table,
                                                          ChannelSettings settings) {
  const auto executor = co_await asio::this_coro::executor;
  Pointer channel(new NetChannel(executor, std::move(netdev), Role::solo, settings));
  channel->translator_.reset(table);
  const auto attached = co_await channel->attach(qmp);
  if (!attached) co_return attached.error();
  co_return channel;
}

void NetChannel::become_primary(ChannelSettings settings) {
  role_ = Role::primary;
  end_counting();
  comparer_ = proxy::Comparer(settings.compare);
  gate_.forget_counters();
  dropped_frames_ = stale_frames_ = 0;
  counted_ = std::move(settings.counted);
}

ChannelCounters NetChannel::counters() const {
  if (!counted_) return {};
  return {gate_.counters(), comparer_.counters(), dropped_frames_, stale_frames_};
}

void NetChannel::end_counting() {
  const auto last = counters();
  if (const auto tell = std::exchange(counted_, {})) tell(last);
}

void NetChannel::become_solo() {
  if (comparing_) begin_epoch(Mode::periodic);
  role_ = Role::solo;
  forwarding_ = false;
  translator_.learn(false);
  gate_.open();
  flush();
}

Task<Result<void>> NetChannel::start_mirror(qmp::Client& qmp) {
  if (mirrors()) co_return Result<void>();
  auto added = co_await add_source(qmp, mirror_);
  if (!added) {
    (void)co_await stop_mirror(qmp);
    co_return with_context("mirror of " + netdev_, added.error());
  }
  if (!is_attached()) {  // taken off meanwhile
    (void)co_await stop_mirror(qmp);
    co_return Error{Errc::closed, "the network filters of " + netdev_ + " were taken off"};
  }
  co_return added;
}

Task<Result<void>> NetChannel::stop_mirror(qmp::Client& qmp) {
  (void)co_await qmp::delete_object(qmp, id(mirror_.part));
  boost::system::error_code ignored;
  mirror_.socket.close(ignored);
  co_return co_await qmp::remove_chardev(qmp, id(mirror_.part));
}

bool NetChannel::is_taken(const Sink& sink, bool queue_is_empty) const {
  if (!sink.socket.is_open()) return true;
  int unread = 0;
  // A socket that cannot be asked any more is not read any more.
  auto& socket = const_cast<asio::posix::stream_descriptor&>(sink.socket);
  const bool known = ::ioctl(socket.native_handle(), SIOCOUTQ, &unread) == 0;
  return queue_is_empty && (!known || unread == 0);
}

Task<Result<void>> NetChannel::switch_on(qmp::Client& qmp) {
  // What puts packets in comes first, so that nothing is taken that finds no way out.
  const std::array<std::pair<std::string, bool>, 4> parts{
      {{inject_.part, inject_.socket.is_open()},
       {feed_.part, feed_.socket.is_open()},
       {capture_.part, capture_.socket.is_open()},
       {intake_.part, intake_.socket.is_open()}}};
  for (const auto& [part, open] : parts) {
    if (!open) continue;
    const auto on = co_await qmp::switch_filter_on(qmp, id(part));
    if (!on) co_return on.error();
  }
  co_return Result<void>();
}

Task<Result<void>> NetChannel::detach_in_order(qmp::Client& qmp) {
  become_solo();
  // From here on new packets go straight on. Those still in our hands are put in ahead of them as
  // far as they can be: what a filter has taken is drained before its counterpart goes.
  auto result = Result<void>();
  for (auto* source : {&capture_, &intake_}) {
    if (!source->socket.is_open()) continue;
    const auto deleted = co_await qmp::delete_object(qmp, id(source->part));
    if (!deleted && result) result = deleted;
    const auto drained = drain(*source);
    if (!drained && result) result = drained.error();
  }
  asio::steady_timer timer(co_await asio::this_coro::executor);
  const auto deadline = steady_clock::now() + sink_wait_max;
  while (!is_taken(inject_, gate_.outbox().empty()) || !is_taken(feed_, feed_.queue.empty())) {
    if (steady_clock::now() > deadline) break;  // QEMU does not read; the rest is lost
    timer.expires_after(sink_poll);
    co_await timer.async_wait(use_tuple);
  }
  const auto rest = co_await detach(qmp);
  co_return result ? rest : result;
}

Task<Result<void>> NetChannel::detach(qmp::Client& qmp) {
  const std::array<std::pair<std::string, bool>, 5> parts{
      {{capture_.part, capture_.socket.is_open()},
       {intake_.part, intake_.socket.is_open()},
       {mirror_.part, mirror_.socket.is_open()},
       {inject_.part, inject_.socket.is_open()},
       {feed_.part, feed_.socket.is_open()}}};
  // Every step is tried: each is harmless where its object is gone already.
  for (const auto& [part, open] : parts) {
    if (open) (void)co_await qmp::delete_object(qmp, id(part));
  }
  auto result = Result<void>();
  for (const auto& [part, open] : parts) {
    if (!open) continue;
    const auto removed = co_await qmp::remove_chardev(qmp, id(part));
    if (!removed && result) result = removed;
  }
  close();
  co_return result;
}

void NetChannel::close() {
  boost::system::error_code ignored;
  for (auto* source : {&capture_, &intake_, &mirror_}) source->socket.close(ignored);
  inject_.socket.close(ignored);
  feed_.socket.close(ignored);
  handlers_ = {};
  end_counting();
}

// ---- reading

void NetChannel::start_pump(Source& source) {
  const auto rethrow = [](const std::exception_ptr& exception) {
    if (exception) std::rethrow_exception(exception);
  };
  asio::co_spawn(source.socket.get_executor(), pump(source), rethrow);
}

Task<void> NetChannel::pump(Source& source) {
  const auto keep_alive = shared_from_this();
  for (;;) {
    const auto [ec] =
        co_await source.socket.async_wait(asio::posix::stream_descriptor::wait_read, use_tuple);
    if (ec || !source.socket.is_open()) co_return;
    // A VM that sends without end must not keep this thread for itself.
    const auto drained = drain(source, pump_reads_max);
    if (!drained) {
      // A socket that is not read would freeze QEMU; one that is closed does not.
      boost::system::error_code ignored;
      source.socket.close(ignored);
      if (handlers_.failed) handlers_.failed(drained.error());
      co_return;
    }
    if (gate_.wants_checkpoint() && handlers_.held_much) handlers_.held_much();
  }
}

Result<std::uint64_t> NetChannel::drain(Source& source, int reads_max) {
  std::uint64_t count = 0;
  for (int reads = 0; reads < reads_max && source.socket.is_open(); ++reads) {
    const auto n =
        ::recv(source.socket.native_handle(), received_.data(), received_.size(), MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
    const auto what = source.part + " socket of " + netdev_;
    if (n < 0) return system_error(what, errno);
    if (n == 0) return Error{Errc::closed, what + " was closed by QEMU"};
    const auto frames = source.frames.add(std::span(received_).first(static_cast<std::size_t>(n)));
    if (!frames) return with_context(what, frames.error());
    count += frames->count;
    take(source, *frames);
  }
  flush();
  return count;
}

void NetChannel::take(const Source& source, proxy::FrameSpan frames) {
  if (frames.count == 0) return;
  if (&source == &capture_) {
    take_output(frames);
  } else if (&source == &intake_) {
    take_client_packets(frames);
  } else if (handlers_.input) {
    handlers_.input(frames);
  }
}

void NetChannel::take_output(proxy::FrameSpan frames) {
  if (role_ == Role::secondary && !forwarding_) {
    dropped_frames_ += frames.count;
    return;
  }
  const auto now = steady_clock::now();
  if (role_ == Role::secondary) {
    translated_.clear();
    translator_.from_guest(frames.bytes, translated_, now);
    if (!translated_.empty() && handlers_.output) handlers_.output({translated_, frames.count});
    return;
  }
  if (!translator_.idle()) {
    translated_.clear();
    translator_.from_guest(frames.bytes, translated_, now);
    frames.bytes = translated_;
  }
  if (!comparing_) {
    gate_.capture(frames);
    return;
  }
  comparer_.primary(frames.bytes, now);
  settle();
}

void NetChannel::take_client_packets(proxy::FrameSpan frames) {
  if (role_ == Role::secondary) {
    // The VM is not on the network; what its own host says to it is none of its clients' business.
    dropped_frames_ += frames.count;
    return;
  }
  feed(frames);
}

// ---- writing

void NetChannel::feed(proxy::FrameSpan frames) {
  if (feed_.queue.size() + frames.bytes.size() > feed_bytes_max) {
    dropped_frames_ += frames.count;
    return;
  }
  // A secondary's translator watches what clients send, also where it has nothing to translate yet.
  if (role_ != Role::secondary && translator_.idle()) {
    feed_.queue.append(frames.bytes);
  } else {
    translated_.clear();
    translator_.to_guest(frames.bytes, translated_, steady_clock::now());
    feed_.queue.append(translated_);
  }
  flush(feed_, feed_.queue);
}

void NetChannel::reference(proxy::FrameSpan frames) {
  translated_.clear();
  translator_.reference(frames.bytes, translated_, steady_clock::now());
  if (translated_.empty() || !forwarding_ || !handlers_.output) return;
  const auto scan = proxy::FrameScanner::scan(translated_);
  if (scan) handlers_.output({translated_, scan->frames});
}

bool NetChannel::is_quiet() const {
  return is_taken(feed_, feed_.queue.empty());
}

void NetChannel::flush() {
  flush(inject_, gate_.outbox());
  flush(feed_, feed_.queue);
}

void NetChannel::flush(Sink& sink, proxy::ByteQueue& queue) {
  if (sink.writing || !sink.socket.is_open()) return;
  while (!queue.empty()) {
    const auto out = queue.front();
    const auto n =
        ::send(sink.socket.native_handle(), out.data(), out.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n >= 0) {
      queue.consume(static_cast<std::size_t>(n));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      sink.writing = true;
      asio::co_spawn(sink.socket.get_executor(), flush_rest(sink), asio::detached);
      return;
    } else if (errno != EINTR) {
      return;  // QEMU has gone; its monitor says so
    }
  }
}

Task<void> NetChannel::flush_rest(Sink& sink) {
  const auto keep_alive = shared_from_this();
  const auto [ec] =
      co_await sink.socket.async_wait(asio::posix::stream_descriptor::wait_write, use_tuple);
  sink.writing = false;
  if (ec) co_return;
  flush();
  if (&sink == &feed_ && handlers_.fed) handlers_.fed();
}

// ---- a primary's epochs

Result<void> NetChannel::hold_output() {
  const auto drained = drain(capture_);
  gate_.hold();
  return drained ? Result<void>() : drained.error();
}

Result<void> NetChannel::close_epoch(Checkpoint epoch) {
  auto result = Result<void>();
  for (auto* source : {&capture_, &mirror_}) {
    auto drained = drain(*source);
    if (source == &capture_ && drained) gate_.count_drained(*drained);
    for (int tries = 0; drained && source->frames.mid_frame() && tries < cut_frame_tries; ++tries) {
      drained = drain(*source);
    }
    if (!drained && result) result = drained.error();
  }
  if (comparing_) {
    const auto held = comparer_.close_epoch();
    gate_.capture({held.bytes, held.count});
  }
  gate_.close_epoch(epoch);
  return result;
}

void NetChannel::begin_epoch(Mode mode) {
  if (comparing_) {
    // Normally nothing: the epoch was closed.
    const auto held = comparer_.close_epoch();
    gate_.capture({held.bytes, held.count});
  }
  // What the VM has sent in periodic mode was not seen by the comparer.
  if (!comparing_ && mode == Mode::colo) comparer_.forget_flows();
  comparing_ = mode == Mode::colo;
}

void NetChannel::release_through(Checkpoint epoch) {
  gate_.release_through(epoch);
  flush();
}

void NetChannel::secondary_entered() {
  if (!comparing_) return;
  comparer_.secondary_entered(steady_clock::now());
  settle();
}

void NetChannel::secondary_sent(proxy::FrameSpan frames) {
  if (!comparing_) return;
  comparer_.secondary(frames.bytes, steady_clock::now());
  settle();
  flush();
}

void NetChannel::tick() {
  if (!comparing_) return;
  comparer_.tick(steady_clock::now());
  settle();
  flush();
}

void NetChannel::settle() {
  const auto references = comparer_.take_references();
  if (references.count > 0 && handlers_.reference) {
    handlers_.reference({references.bytes, references.count});
  }
  comparer_.take_released(released_);
  gate_.pass({released_.bytes, released_.count});
  if (const auto mismatch = comparer_.take_mismatch(); mismatch && handlers_.mismatch) {
    handlers_.mismatch(*mismatch);
  }
}

// ---- a secondary's epochs

Result<void> NetChannel::end_epoch() {
  forwarding_ = false;
  const auto drained = drain(capture_);
  return drained ? Result<void>() : drained.error();
}

void NetChannel::load_epoch(const proxy::TranslationTable& table, Mode mode) {
  translator_.reset(table);
  translator_.learn(mode == Mode::colo);
  forwarding_ = mode == Mode::colo;
}

Task<Result<void>> remove_leftover_filters(qmp::Client& qmp) {
  auto objects = co_await qmp::list_objects(qmp);
  if (!objects) co_return objects.error();
  const auto ours = [](const std::string& id) { return id.starts_with(object_prefix); };
  std::ranges::stable_partition(
      *objects, [](const auto& id) { return id.ends_with("-capture") || id.ends_with("-intake"); });
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
