#include "engine/cli/pcapng.hpp"

#include <algorithm>
#include <concepts>
#include <cstring>

namespace tandem::cli {
namespace {

using Bytes = std::vector<std::byte>;

constexpr std::uint32_t section_header_block = 0x0a0d0d0a;
constexpr std::uint32_t interface_description_block = 1;
constexpr std::uint32_t enhanced_packet_block = 6;
constexpr std::uint32_t byte_order_magic = 0x1a2b3c4d;
constexpr std::uint16_t link_type_ethernet = 1;

constexpr std::uint16_t option_end = 0;
constexpr std::uint16_t option_comment = 1;
constexpr std::uint16_t option_interface_name = 2;
constexpr std::uint16_t option_application = 4;
constexpr std::uint16_t option_time_resolution = 9;
constexpr std::size_t option_length_max = 0xffff;

/// In this machine's byte order; the section header says which one that is.
template <std::integral T>
void put(Bytes& out, T value) {
  const auto at = out.size();
  out.resize(at + sizeof value);
  std::memcpy(out.data() + at, &value, sizeof value);
}

void put_padded(Bytes& out, std::span<const std::byte> bytes) {
  out.insert(out.end(), bytes.begin(), bytes.end());
  out.resize((out.size() + 3) / 4 * 4);
}

void put_option(Bytes& body, std::uint16_t code, std::string_view text) {
  text = text.substr(0, option_length_max);
  put(body, code);
  put(body, static_cast<std::uint16_t>(text.size()));
  put_padded(body, std::as_bytes(std::span(text)));
}

void end_options(Bytes& body) {
  put(body, option_end);
  put(body, std::uint16_t{0});
}

/// A block's length stands before and behind its body.
void put_block(Bytes& out, std::uint32_t type, const Bytes& body) {
  const auto length = static_cast<std::uint32_t>(body.size() + 12);
  put(out, type);
  put(out, length);
  out.insert(out.end(), body.begin(), body.end());
  put(out, length);
}

void put_interface(Bytes& out, std::string_view name) {
  Bytes body;
  put(body, link_type_ethernet);
  put(body, std::uint16_t{0});  // reserved
  put(body, std::uint32_t{0});  // no frame is cut off
  put_option(body, option_interface_name, name);
  put_option(body, option_time_resolution, std::string_view("\x06", 1));  // 10^-6 s
  end_options(body);
  put_block(out, interface_description_block, body);
}

}  // namespace

PcapngWriter::PcapngWriter(std::string_view application, std::vector<std::byte>& out) {
  Bytes body;
  put(body, byte_order_magic);
  put(body, std::uint16_t{1});  // version 1.0
  put(body, std::uint16_t{0});
  put(body, std::int64_t{-1});  // the section's length is not known
  put_option(body, option_application, application);
  end_options(body);
  put_block(out, section_header_block, body);
}

void PcapngWriter::add(const CapturedFrame& frame, std::vector<std::byte>& out) {
  const auto [found, is_new] =
      interfaces_.try_emplace(frame.interface, static_cast<std::uint32_t>(interfaces_.size()));
  if (is_new) put_interface(out, frame.interface);
  const auto time = static_cast<std::uint64_t>(std::max<std::int64_t>(frame.time.count(), 0));
  const auto length = static_cast<std::uint32_t>(frame.frame.size());
  Bytes body;
  body.reserve(frame.frame.size() + frame.comment.size() + 64);
  put(body, found->second);
  put(body, static_cast<std::uint32_t>(time >> 32));
  put(body, static_cast<std::uint32_t>(time));
  put(body, length);  // captured
  put(body, length);  // on the wire
  put_padded(body, frame.frame);
  if (!frame.comment.empty()) {
    put_option(body, option_comment, frame.comment);
    end_options(body);
  }
  put_block(out, enhanced_packet_block, body);
}

}  // namespace tandem::cli
