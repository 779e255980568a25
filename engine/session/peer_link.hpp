// The connection to a pair's peer: its three lanes, the heartbeats on them, and the verdict that
// the peer is lost. Both sides of a pair use it.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string_view>

#include "base/nursery.hpp"
#include "base/signal.hpp"
#include "engine/session/failure_detector.hpp"
#include "engine/session/frame_channel.hpp"
#include "engine/session/session.hpp"
#include "engine/transport/link_watch.hpp"

namespace tandem::session {

class PeerLink {
 public:
  struct Handlers {
    /// A frame of the control lane, heartbeats left out. An error is the peer's fault and ends the
    /// link.
    std::function<Task<Result<void>>(Frame)> control;
    /// The same for the packet lane.
    std::function<Result<void>(const Frame&)> packet;
    /// The peer is lost: a lane ended or broke its protocol, the link went down, or all was silent.
    /// May be called again for the other lanes.
    std::function<void(Error)> lost;
  };

  /// `silence_limit`: how long nothing may come from the peer.
  PeerLink(const asio::any_io_executor& executor, const PairSettings& settings, Lanes lanes,
           std::chrono::milliseconds silence_limit, Handlers handlers);

  /// Starts the loops that write, read, beat and watch; they end with say_farewell().
  void start(Nursery& nursery);
  /// From now on silence counts.
  void expect_heartbeats() noexcept { silence_counts_ = true; }

  /// Queues a frame on the control lane. Errc::limit if the peer does not read.
  Result<void> post(wire::FrameType type, std::uint64_t number, std::string_view payload = {});
  /// Queues whole frames of a NIC on the packet lane. Errc::limit if the peer does not read.
  Result<void> post_packets(wire::FrameType type, std::uint64_t epoch, std::size_t nic,
                            std::span<const std::byte> frames);
  /// For the owner to send and receive on; what comes in is to be told by heard().
  [[nodiscard]] transport::Lane& bulk() noexcept { return *bulk_; }
  /// The owner's bulk lane ended: waits for the reason, which comes on the control lane, then says
  /// lost.
  Task<void> bulk_ended(Error error);
  void heard();

  /// Closes the lanes once what is queued has been sent.
  void close();
  /// Closes, and gives what is queued a limited time.
  void say_farewell();
  /// After the loops have ended.
  void finish();

  /// Sleeps, but not beyond say_farewell().
  Task<void> sleep(std::chrono::milliseconds time) { return ending_.wait_for(time); }

  [[nodiscard]] std::chrono::system_clock::time_point last_heard() const noexcept {
    return last_heard_;
  }
  /// Sent and received on the control and packet lanes.
  [[nodiscard]] std::uint64_t bytes() const noexcept { return packet_.bytes() + control_.bytes(); }

 private:
  Task<void> read_control();
  Task<void> read_packets();
  Task<void> beat();
  Task<void> watch_link();

  asio::any_io_executor executor_;
  std::string peer_;
  std::string local_address_;
  std::chrono::milliseconds heartbeat_, silence_limit_;
  Handlers handlers_;
  std::unique_ptr<transport::Lane> bulk_;
  FrameChannel packet_, control_;
  FailureDetector detector_;
  std::unique_ptr<transport::LinkWatch> link_;
  Signal ending_;  ///< who sleeps wakes up
  asio::steady_timer farewell_;
  bool silence_counts_ = false;
  bool ended_ = false;
  std::chrono::system_clock::time_point last_heard_;
};

}  // namespace tandem::session
