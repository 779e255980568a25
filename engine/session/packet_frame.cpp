#include "engine/session/packet_frame.hpp"

#include "base/big_endian.hpp"
#include "engine/wire/protocol.hpp"

namespace tandem::session {
namespace {

constexpr std::size_t head_size = 4;

/// The longest prefix of `frames` that consists of whole frames and is not longer than `limit`.
std::span<const std::byte> piece_of(std::span<const std::byte> frames, std::size_t limit) {
  std::size_t size = 0;
  while (size < frames.size()) {
    const auto frame =
        proxy::frame_prefix_size + load_be<std::uint32_t>(frames.subspan(size).data());
    if (size + frame > limit) break;
    size += frame;
  }
  return frames.first(size);
}

}  // namespace

Result<PacketPayload> decode_packets(std::string_view payload, std::size_t nics) {
  const auto bytes = std::as_bytes(std::span(payload));
  if (bytes.size() < head_size) return Error{Errc::protocol, "packets without the index of a NIC"};
  const auto nic = load_be<std::uint32_t>(bytes.data());
  if (nic >= nics) {
    return Error{Errc::protocol,
                 "packets of NIC " + std::to_string(nic) + " of " + std::to_string(nics)};
  }
  const auto frames = bytes.subspan(head_size);
  const auto scan = proxy::FrameScanner::scan(frames);
  if (!scan) return with_context("packets of the peer", scan.error());
  if (scan->complete != frames.size()) {
    return Error{Errc::protocol, "packets of the peer end inside a frame"};
  }
  return PacketPayload{nic, {frames, scan->frames}};
}

Result<void> encode_packets(std::size_t nic, std::span<const std::byte> frames,
                            const std::function<Result<void>(std::string_view payload)>& post) {
  std::string payload;
  while (!frames.empty()) {
    const auto piece = frames.size() <= wire::packet_payload_max - head_size
                           ? frames
                           : piece_of(frames, wire::packet_payload_max - head_size);
    frames = frames.subspan(piece.size());
    payload.resize(head_size + piece.size());
    const auto bytes = std::as_writable_bytes(std::span(payload));
    store_be(bytes.data(), static_cast<std::uint32_t>(nic));
    std::memcpy(bytes.data() + head_size, piece.data(), piece.size());
    const auto posted = post(payload);
    if (!posted) return posted;
  }
  return {};
}

}  // namespace tandem::session
