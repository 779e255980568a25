#include "engine/wire/protocol.hpp"

#include <algorithm>
#include <cstring>

#include "base/big_endian.hpp"

namespace tandem::wire {
namespace {

constexpr std::array magic{std::byte{'T'}, std::byte{'N'}, std::byte{'D'}, std::byte{'M'}};

std::vector<std::byte> encode_opening(std::uint16_t code, std::string_view text) {
  std::vector<std::byte> out(hello_header_size + text.size());
  std::ranges::copy(magic, out.begin());
  store_be<std::uint16_t>(&out[4], protocol_version);
  store_be<std::uint16_t>(&out[6], code);
  store_be<std::uint32_t>(&out[8], static_cast<std::uint32_t>(text.size()));
  if (!text.empty()) std::memcpy(&out[hello_header_size], text.data(), text.size());
  return out;
}

struct Opening {
  std::uint16_t code;
  std::uint32_t text_length;
};

Result<Opening> decode_opening(std::span<const std::byte, hello_header_size> bytes) {
  if (!std::ranges::equal(magic, bytes.first<4>())) {
    return Error{Errc::protocol, "the other side does not speak Tandem's replication protocol"};
  }
  const auto version = load_be<std::uint16_t>(&bytes[4]);
  if (version != protocol_version) {
    return Error{Errc::refused, "the peer speaks protocol version " + std::to_string(version) +
                                    ", this daemon version " + std::to_string(protocol_version) +
                                    ": install the same release of Tandem on both hosts"};
  }
  const auto length = load_be<std::uint32_t>(&bytes[8]);
  if (length > hello_text_max) {
    return Error{Errc::limit, "a hello of " + std::to_string(length) + " bytes; at most " +
                                  std::to_string(hello_text_max) + " are allowed"};
  }
  return Opening{load_be<std::uint16_t>(&bytes[6]), length};
}

struct FrameRule {
  FrameType type;
  bool on_bulk, on_packet, on_control;
  std::uint64_t length_max;
  std::uint32_t flags = 0;
};

// The checkpoint's own limit depends on the VM and is given to decode_frame.
constexpr std::array rules{
    FrameRule{FrameType::stream, true, false, false, stream_piece_max},
    FrameRule{FrameType::checkpoint, true, false, false, 0, flag_runs},
    FrameRule{FrameType::translations, true, false, false, translations_payload_max},
    FrameRule{FrameType::heartbeat, false, true, true, 0},
    FrameRule{FrameType::setup, false, false, true, control_payload_max},
    FrameRule{FrameType::setup_done, false, false, true, 0},
    FrameRule{FrameType::failed, false, false, true, control_payload_max},
    FrameRule{FrameType::return_path, false, false, true, control_payload_max},
    FrameRule{FrameType::ready, false, false, true, 0},
    FrameRule{FrameType::committed, false, false, true, 0},
    FrameRule{FrameType::loaded, false, false, true, 0},
    FrameRule{FrameType::take_over, false, false, true, control_payload_max},
    FrameRule{FrameType::end, false, false, true, control_payload_max},
    FrameRule{FrameType::ask, false, false, true, control_payload_max},
    FrameRule{FrameType::input, false, true, false, packet_payload_max},
    FrameRule{FrameType::reference, false, true, false, packet_payload_max},
    FrameRule{FrameType::output, false, true, false, packet_payload_max},
};

bool allowed(const FrameRule& rule, LaneKind lane) {
  switch (lane) {
    case LaneKind::bulk:
      return rule.on_bulk;
    case LaneKind::packet:
      return rule.on_packet;
    case LaneKind::control:
      return rule.on_control;
  }
  return false;
}

}  // namespace

std::string_view to_string(LaneKind kind) noexcept {
  switch (kind) {
    case LaneKind::bulk:
      return "bulk";
    case LaneKind::packet:
      return "packet";
    case LaneKind::control:
      return "control";
  }
  return "unknown";
}

std::string_view to_string(FrameType type) noexcept {
  switch (type) {
    case FrameType::stream:
      return "stream";
    case FrameType::checkpoint:
      return "checkpoint";
    case FrameType::translations:
      return "translations";
    case FrameType::heartbeat:
      return "heartbeat";
    case FrameType::setup:
      return "setup";
    case FrameType::setup_done:
      return "setup-done";
    case FrameType::failed:
      return "failed";
    case FrameType::return_path:
      return "return-path";
    case FrameType::ready:
      return "ready";
    case FrameType::committed:
      return "committed";
    case FrameType::loaded:
      return "loaded";
    case FrameType::take_over:
      return "take-over";
    case FrameType::end:
      return "end";
    case FrameType::ask:
      return "ask";
    case FrameType::input:
      return "input";
    case FrameType::reference:
      return "reference";
    case FrameType::output:
      return "output";
  }
  return "unknown";
}

std::vector<std::byte> encode_hello(LaneKind kind, std::string_view json) {
  return encode_opening(static_cast<std::uint16_t>(kind), json);
}

std::vector<std::byte> encode_hello_answer(HelloStatus status, std::string_view text) {
  return encode_opening(static_cast<std::uint16_t>(status), text.substr(0, hello_text_max));
}

Result<HelloHeader> decode_hello(std::span<const std::byte, hello_header_size> bytes) {
  const auto opening = decode_opening(bytes);
  if (!opening) return opening.error();
  const auto kind = static_cast<LaneKind>(opening->code);
  if (to_string(kind) == "unknown") {
    return Error{Errc::protocol, "a hello for unknown lane " + std::to_string(opening->code)};
  }
  return HelloHeader{kind, opening->text_length};
}

Result<HelloAnswerHeader> decode_hello_answer(std::span<const std::byte, hello_header_size> bytes) {
  const auto opening = decode_opening(bytes);
  if (!opening) return opening.error();
  if (opening->code > static_cast<std::uint16_t>(HelloStatus::refused)) {
    return Error{Errc::protocol,
                 "a hello's answer with unknown status " + std::to_string(opening->code)};
  }
  return HelloAnswerHeader{static_cast<HelloStatus>(opening->code), opening->text_length};
}

std::array<std::byte, frame_header_size> encode_frame(const FrameHeader& header) {
  std::array<std::byte, frame_header_size> out{};
  store_be<std::uint32_t>(&out[0], static_cast<std::uint32_t>(header.type));
  store_be<std::uint32_t>(&out[4], header.flags);
  store_be<std::uint64_t>(&out[8], header.number);
  store_be<std::uint64_t>(&out[16], header.length);
  return out;
}

Result<FrameHeader> decode_frame(std::span<const std::byte, frame_header_size> bytes, LaneKind lane,
                                 std::uint64_t checkpoint_max) {
  const auto type = static_cast<FrameType>(load_be<std::uint32_t>(&bytes[0]));
  const auto rule = std::ranges::find(rules, type, &FrameRule::type);
  if (rule == rules.end() || !allowed(*rule, lane)) {
    return Error{Errc::protocol, "a frame of type " +
                                     std::to_string(static_cast<std::uint32_t>(type)) + " (" +
                                     std::string(to_string(type)) + ") on the " +
                                     std::string(to_string(lane)) + " lane"};
  }
  const auto flags = load_be<std::uint32_t>(&bytes[4]);
  if ((flags & ~rule->flags) != 0) {
    return Error{Errc::protocol,
                 "unknown flags are set in a " + std::string(to_string(type)) + " frame"};
  }
  const FrameHeader header{type, load_be<std::uint64_t>(&bytes[8]),
                           load_be<std::uint64_t>(&bytes[16]), flags};
  const auto length_max = type == FrameType::checkpoint ? checkpoint_max : rule->length_max;
  if (header.length > length_max) {
    return Error{Errc::limit, "a " + std::string(to_string(type)) + " frame of " +
                                  std::to_string(header.length) + " bytes; at most " +
                                  std::to_string(length_max) + " are allowed"};
  }
  return header;
}

}  // namespace tandem::wire
