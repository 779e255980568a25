#include "engine/session/checkpoint_frame.hpp"

#include <algorithm>
#include <array>

#include "base/big_endian.hpp"
#include "engine/checkpoint/digest.hpp"
#include "engine/colo/stream_parser.hpp"

namespace tandem::session {
namespace {

constexpr std::size_t receive_piece = 1u << 20;

struct WholeCheckpoint final : colo::Sink {
  void on_page(std::string_view, std::uint64_t, std::span<const std::byte>) override { ++pages; }
  void on_zero_page(std::string_view, std::uint64_t, std::byte) override { ++pages; }
  void on_checkpoint_end() override { ended = true; }
  std::uint64_t pages = 0;
  bool ended = false;
};

/// The digest says that these are the bytes that the peer's daemon had; this, that they are exactly
/// one checkpoint. Returns its pages.
Result<std::uint64_t> inspect(std::span<const std::byte> checkpoint) {
  colo::StreamParser parser;
  WholeCheckpoint sink;
  // A stream's parser waits for a REQUEST first; the primary's daemon has answered that itself.
  std::array<std::byte, 4> request{};
  store_be(request.data(), static_cast<std::uint32_t>(colo::Message::checkpoint_request));
  const auto asked = parser.parse(request, sink);
  if (!asked) return asked.error();
  const auto consumed = parser.parse(checkpoint, sink);
  if (!consumed) return consumed.error();
  if (!sink.ended || *consumed != checkpoint.size()) {
    return Error{Errc::protocol, "it is not one whole checkpoint"};
  }
  return sink.pages;
}

}  // namespace

Task<Result<std::uint64_t>> receive_checkpoint(transport::Lane& lane, wire::FrameHeader header,
                                               checkpoint::Buffer& buffer,
                                               std::function<void()> heard) {
  const auto what = "checkpoint " + std::to_string(header.number);
  checkpoint::Digester digester;
  digester.update(wire::encode_frame(header));
  for (std::uint64_t left = header.length; left > 0;) {
    const auto piece =
        buffer.tail().first(static_cast<std::size_t>(std::min<std::uint64_t>(left, receive_piece)));
    const auto received = co_await lane.receive(piece);
    if (!received) co_return with_context(what + " is not whole", received.error());
    heard();
    digester.update(piece);
    buffer.extend(piece.size());
    left -= piece.size();
  }
  checkpoint::Digest expected;
  const auto received = co_await lane.receive(expected);
  if (!received) co_return with_context(what + " is not whole", received.error());
  if (digester.finish() != expected) {
    co_return Error{Errc::protocol, what + " was damaged on its way: its checksum is wrong"};
  }
  const auto pages = inspect(buffer.bytes());
  if (!pages) co_return with_context(what, pages.error());
  co_return *pages;
}

}  // namespace tandem::session
