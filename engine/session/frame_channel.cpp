#include "engine/session/frame_channel.hpp"

#include <cstring>

namespace tandem::session {
namespace {

constexpr std::size_t queued_bytes_max = 4u << 20;

}  // namespace

Task<Result<Frame>> receive_frame(transport::Lane& lane, wire::LaneKind kind) {
  std::array<std::byte, wire::frame_header_size> bytes;
  auto received = co_await lane.receive(bytes);
  if (!received) co_return received.error();
  const auto header = wire::decode_frame(bytes, kind, 0);
  if (!header) co_return header.error();
  Frame frame{*header, std::string(static_cast<std::size_t>(header->length), '\0')};
  if (header->length > 0) {
    received = co_await lane.receive(std::as_writable_bytes(std::span(frame.payload)));
    if (!received) co_return received.error();
  }
  co_return frame;
}

Task<Result<void>> send_frame(transport::Lane& lane, wire::FrameType type, std::string payload) {
  const auto header = wire::encode_frame({type, 0, payload.size()});
  const auto content = std::as_bytes(std::span(payload));
  co_return co_await lane.send(header, content);
}

FrameChannel::FrameChannel(const asio::any_io_executor& executor,
                           std::unique_ptr<transport::Lane> lane, wire::LaneKind kind)
    : lane_(std::move(lane)), kind_(kind), queued_(executor) {}

Result<void> FrameChannel::post(wire::FrameType type, std::uint64_t number,
                                std::string_view payload) {
  if (finishing_ || closed_) return {};
  const auto header = wire::encode_frame({type, number, payload.size()});
  if (queued_bytes_ + header.size() + payload.size() > queued_bytes_max) {
    return Error{Errc::limit,
                 "the peer does not read its " + std::string(to_string(kind_)) + " lane"};
  }
  std::vector<std::byte> frame(header.size() + payload.size());
  std::memcpy(frame.data(), header.data(), header.size());
  if (!payload.empty()) std::memcpy(frame.data() + header.size(), payload.data(), payload.size());
  queued_bytes_ += frame.size();
  queue_.push_back(std::move(frame));
  queued_.notify();
  return {};
}

Task<void> FrameChannel::write_loop() {
  while (!closed_) {
    if (queue_.empty()) {
      if (finishing_) break;
      co_await queued_.wait();
      continue;
    }
    const auto frame = std::move(queue_.front());
    queue_.pop_front();
    const auto sent = co_await lane_->send(frame);
    queued_bytes_ -= frame.size();
    bytes_ += frame.size();
    if (!sent) break;  // the reader of the same lane reports it
  }
  close();
}

Task<Result<Frame>> FrameChannel::receive() {
  auto frame = co_await receive_frame(*lane_, kind_);
  if (frame) bytes_ += wire::frame_header_size + frame->payload.size();
  co_return frame;
}

void FrameChannel::finish() {
  finishing_ = true;
  queued_.notify();
}

void FrameChannel::close() {
  if (closed_) return;
  closed_ = true;
  lane_->close();
  queued_.notify();
}

}  // namespace tandem::session
