// A lane of small frames (control, packet): a bounded queue towards the peer and one writer.
#pragma once

#include <cstddef>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/asio.hpp"
#include "base/signal.hpp"
#include "engine/transport/lane.hpp"
#include "engine/wire/protocol.hpp"

namespace tandem::session {

struct Frame {
  wire::FrameHeader header;
  std::string payload;
};

/// Receives one frame of a control or packet lane.
Task<Result<Frame>> receive_frame(transport::Lane& lane, wire::LaneKind kind);

/// Sends one frame at once, on a lane that no FrameChannel owns yet.
Task<Result<void>> send_frame(transport::Lane& lane, wire::FrameType type, std::string payload);

class FrameChannel {
 public:
  FrameChannel(const asio::any_io_executor& executor, std::unique_ptr<transport::Lane> lane,
               wire::LaneKind kind);

  /// Queues a frame. Errc::limit if the peer takes nothing any more and the queue is full.
  Result<void> post(wire::FrameType type, std::uint64_t number, std::string_view payload = {});

  /// Sends what is queued, until finish() and the queue is empty, or the lane ends.
  Task<void> write_loop();

  Task<Result<Frame>> receive();

  /// Nothing more is queued; the lane closes once the queue has been sent.
  void finish();
  void close();
  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }

 private:
  std::unique_ptr<transport::Lane> lane_;
  wire::LaneKind kind_;
  Signal queued_;
  std::deque<std::vector<std::byte>> queue_;
  std::size_t queued_bytes_ = 0;
  std::uint64_t bytes_ = 0;  ///< sent and received
  bool finishing_ = false;
  bool closed_ = false;
};

}  // namespace tandem::session
