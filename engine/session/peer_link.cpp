#include "engine/session/peer_link.hpp"

#include "engine/session/packet_frame.hpp"

namespace tandem::session {
namespace {

using namespace std::chrono_literals;
using std::chrono::system_clock;

/// A carrier that comes back within this time was not lost.
constexpr auto link_debounce = 50ms;
/// A peer that ends a pair says why on the control lane and closes all three; the end of another
/// lane may be seen first, and waits this long for the reason.
constexpr auto last_words_limit = 20ms;
constexpr auto farewell_limit = 1s;

}  // namespace

PeerLink::PeerLink(const asio::any_io_executor& executor, const PairSettings& settings, Lanes lanes,
                   std::chrono::milliseconds silence_limit, Handlers handlers)
    : executor_(executor),
      peer_(settings.peer),
      local_address_(settings.local_address),
      heartbeat_(settings.heartbeat),
      silence_limit_(silence_limit),
      handlers_(std::move(handlers)),
      bulk_(std::move(lanes.bulk)),
      packet_(executor, std::move(lanes.packet), wire::LaneKind::packet),
      control_(executor, std::move(lanes.control), wire::LaneKind::control),
      detector_(silence_limit, settings.heartbeat / 2),
      ending_(executor),
      farewell_(executor),
      last_heard_(system_clock::now()) {}

void PeerLink::start(Nursery& nursery) {
  nursery.spawn(control_.write_loop());
  nursery.spawn(packet_.write_loop());
  nursery.spawn(read_control());
  nursery.spawn(read_packets());
  nursery.spawn(beat());
  nursery.spawn(watch_link());
}

Result<void> PeerLink::post(wire::FrameType type, std::uint64_t number, std::string_view payload) {
  return control_.post(type, number, payload);
}

Result<void> PeerLink::post_packets(wire::FrameType type, std::uint64_t epoch, std::size_t nic,
                                    std::span<const std::byte> frames) {
  return encode_packets(
      nic, frames, [&](std::string_view payload) { return packet_.post(type, epoch, payload); });
}

void PeerLink::heard() {
  detector_.heard();
  last_heard_ = system_clock::now();
}

Task<void> PeerLink::read_control() {
  for (;;) {
    auto frame = co_await control_.receive();
    if (!frame) {
      handlers_.lost(frame.error());
      co_return;
    }
    heard();
    if (frame->header.type == wire::FrameType::heartbeat) continue;
    const auto handled = co_await handlers_.control(std::move(*frame));
    if (!handled) {
      handlers_.lost(handled.error());
      co_return;
    }
  }
}

Task<void> PeerLink::read_packets() {
  for (;;) {
    const auto frame = co_await packet_.receive();
    if (!frame) {
      co_await ending_.wait_for(last_words_limit);
      handlers_.lost(frame.error());
      co_return;
    }
    heard();
    if (frame->header.type == wire::FrameType::heartbeat) continue;
    const auto handled = handlers_.packet(*frame);
    if (!handled) {
      handlers_.lost(handled.error());
      co_return;
    }
  }
}

Task<void> PeerLink::bulk_ended(Error error) {
  if (error.code == Errc::closed) co_await ending_.wait_for(last_words_limit);
  handlers_.lost(std::move(error));
}

Task<void> PeerLink::beat() {
  for (std::uint64_t n = 0; !ended_; ++n) {
    co_await ending_.wait_for(heartbeat_ / 2);
    if (ended_) co_return;
    if (n % 2 == 0) {
      (void)packet_.post(wire::FrameType::heartbeat, n / 2);
      const auto posted = control_.post(wire::FrameType::heartbeat, n / 2);
      if (!posted) handlers_.lost(posted.error());
    }
    if (silence_counts_ && detector_.tick()) {
      handlers_.lost({Errc::timed_out, peer_ + " has been silent for " +
                                           std::to_string(silence_limit_.count()) + " ms"});
    }
  }
}

Task<void> PeerLink::watch_link() {
  auto link = transport::LinkWatch::open(executor_, local_address_);
  if (!link) co_return;  // no interface to watch; silence will tell
  link_ = std::move(*link);
  const bool down = co_await link_->wait_until_down(link_debounce);
  if (down) {
    handlers_.lost({Errc::unavailable, "the link to it (" + link_->interface() + ") is down"});
  }
}

void PeerLink::close() {
  bulk_->close();
  packet_.finish();
  control_.finish();
}

void PeerLink::say_farewell() {
  ended_ = true;
  close();
  if (link_) link_->close();
  ending_.notify();
  farewell_.expires_after(farewell_limit);
  farewell_.async_wait([this](boost::system::error_code ec) {
    if (ec) return;
    control_.close();
    packet_.close();
  });
}

void PeerLink::finish() {
  farewell_.cancel();
}

}  // namespace tandem::session
