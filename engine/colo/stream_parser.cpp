#include "engine/colo/stream_parser.hpp"

#include <algorithm>
#include <array>
#include <cstdio>

#include "base/big_endian.hpp"
#include "engine/colo/wire_format.hpp"

namespace tandem::colo {
namespace {

constexpr std::size_t message_bytes = 4;
constexpr std::size_t section_start_bytes = 5;
constexpr std::size_t section_footer_bytes = 5;
constexpr std::size_t record_head_bytes = 8;
constexpr std::size_t size_message_bytes = 12;

std::string hex(std::uint64_t value) {
  std::array<char, 19> text{};
  std::snprintf(text.data(), text.size(), "0x%llx", static_cast<unsigned long long>(value));
  return text.data();
}

std::string_view section_type_name(std::byte type) {
  switch (std::to_integer<unsigned>(type)) {
    case 0x00:
      return "EOF";
    case 0x01:
      return "SECTION_START";
    case 0x02:
      return "SECTION_PART";
    case 0x03:
      return "SECTION_END";
    case 0x04:
      return "SECTION_FULL";
    case 0x05:
      return "SUBSECTION";
    case 0x06:
      return "VMDESCRIPTION";
    case 0x07:
      return "CONFIGURATION";
    case 0x08:
      return "COMMAND";
    case 0x7e:
      return "SECTION_FOOTER";
    default:
      return "unknown";
  }
}

/// A record flag that a checkpoint over a single plain channel never has, and how it would come
/// about.
struct RefusedFlag {
  std::uint64_t flag;
  std::string_view what;
};
constexpr std::array refused_flags{
    RefusedFlag{flag_full, "RAM_SAVE_FLAG_FULL (obsolete)"},
    RefusedFlag{flag_mem_size, "RAM_SAVE_FLAG_MEM_SIZE (part of a migration's beginning only)"},
    RefusedFlag{flag_xbzrle, "RAM_SAVE_FLAG_XBZRLE (switch the capability xbzrle off)"},
    RefusedFlag{flag_hook, "RAM_SAVE_FLAG_HOOK (do not migrate over rdma:)"},
    RefusedFlag{flag_compress_page,
                "RAM_SAVE_FLAG_COMPRESS_PAGE (switch the capability compress off)"},
    RefusedFlag{flag_multifd_flush,
                "RAM_SAVE_FLAG_MULTIFD_FLUSH (switch the capability multifd off)"},
};
constexpr std::uint64_t known_flags = flag_zero | flag_page | flag_eos | flag_continue;

constexpr bool has_one_known_meaning(std::uint64_t flags) noexcept {
  const std::uint64_t kind = flags & ~flag_continue;
  return kind == flag_page || kind == flag_zero || flags == flag_eos;
}

/// What is wrong with flags that do not have one known meaning.
std::string describe_bad_flags(std::uint64_t flags) {
  for (const RefusedFlag& refused : refused_flags) {
    if ((flags & refused.flag) != 0) {
      return "ram record flag " + hex(refused.flag) + ", " + std::string(refused.what) +
             ", is not supported; record flags " + hex(flags);
    }
  }
  if ((flags & ~known_flags) != 0) {
    return "unknown ram record flag " + hex(flags & ~known_flags) + "; record flags " + hex(flags);
  }
  return "contradictory ram record flags " + hex(flags) +
         "; expected PAGE (0x8) or ZERO (0x2), each with or without CONTINUE (0x20), or EOS (0x10)";
}

}  // namespace

std::string_view to_string(Message message) noexcept {
  switch (message) {
    case Message::checkpoint_ready:
      return "CHECKPOINT_READY";
    case Message::checkpoint_request:
      return "CHECKPOINT_REQUEST";
    case Message::checkpoint_reply:
      return "CHECKPOINT_REPLY";
    case Message::vmstate_send:
      return "VMSTATE_SEND";
    case Message::vmstate_size:
      return "VMSTATE_SIZE";
    case Message::vmstate_received:
      return "VMSTATE_RECEIVED";
    case Message::vmstate_loaded:
      return "VMSTATE_LOADED";
  }
  return "unknown";
}

StreamParser::StreamParser(ParserLimits limits)
    : limits_(limits), element_bytes_needed_(message_bytes) {
  block_.reserve(block_name_size_max);
}

bool StreamParser::idle() const noexcept {
  return state_ == State::idle && !error_;
}

std::size_t StreamParser::bytes_needed(std::size_t window_size) const noexcept {
  return element_bytes_needed_ > window_size ? element_bytes_needed_ - window_size : 1;
}

std::size_t StreamParser::wait_for(std::size_t size) noexcept {
  element_bytes_needed_ = size;
  return 0;
}

Error StreamParser::error_here(Errc code, std::string_view what) const {
  return Error{code, "COLO stream, byte " + std::to_string(position_) + ": " + std::string(what)};
}

Result<std::size_t> StreamParser::parse(std::span<const std::byte> window, Sink& sink,
                                        bool stop_after_message) {
  if (error_) return *error_;
  std::size_t consumed = 0;
  for (;;) {
    const bool at_message = state_ == State::idle || state_ == State::expect_send;
    const auto element = parse_element(window.subspan(consumed), sink);
    if (!element) {
      error_ = element.error();
      return *error_;
    }
    // Every element has at least one byte, so this loop ends with the window.
    if (*element == 0) return consumed;
    consumed += *element;
    position_ += *element;
    if (stop_after_message && at_message) {
      element_bytes_needed_ = state_ == State::expect_send ? message_bytes : 1;
      return consumed;
    }
  }
}

Result<std::size_t> StreamParser::parse_element(std::span<const std::byte> window, Sink& sink) {
  switch (state_) {
    case State::idle:
      return parse_message(window, Message::checkpoint_request, sink);
    case State::expect_send:
      return parse_message(window, Message::vmstate_send, sink);
    case State::section_or_end:
      return parse_section_start(window);
    case State::ram_record:
      return parse_ram_record(window, sink);
    case State::section_tail:
      return parse_section_tail(window);
    case State::size:
      return parse_size(window, sink);
    case State::device_state:
      return pass_device_state(window, sink);
  }
  return error_here(Errc::protocol, "the parser is in no known state");
}

Result<std::size_t> StreamParser::parse_message(std::span<const std::byte> window, Message expected,
                                                Sink& sink) {
  if (window.size() < message_bytes) return wait_for(message_bytes);
  const auto value = load_be<std::uint32_t>(window.data());
  if (value != static_cast<std::uint32_t>(expected)) {
    return error_here(Errc::protocol, "expected the message " + std::string(to_string(expected)) +
                                          ", found " + hex(value) + " (" +
                                          std::string(to_string(Message{value})) + ")");
  }
  if (expected == Message::checkpoint_request) {
    state_ = State::expect_send;
  } else {
    state_ = State::section_or_end;
    sections_ = 0;
    records_ = 0;
  }
  sink.on_message(expected);
  return message_bytes;
}

Result<std::size_t> StreamParser::parse_section_start(std::span<const std::byte> window) {
  if (window.empty()) return wait_for(1);
  if (window[0] == section_list_end) {
    state_ = State::size;
    return 1;
  }
  if (window[0] != section_end) {
    return error_here(Errc::protocol,
                      "expected SECTION_END (0x3) or the end of the sections (0x0), found " +
                          hex(std::to_integer<unsigned>(window[0])) + " (" +
                          std::string(section_type_name(window[0])) + ")");
  }
  if (sections_ == limits_.sections_max) {
    return error_here(Errc::limit, "the checkpoint has more than " +
                                       std::to_string(limits_.sections_max) + " sections");
  }
  if (window.size() < section_start_bytes) return wait_for(section_start_bytes);
  ++sections_;
  section_id_ = load_be<std::uint32_t>(&window[1]);
  state_ = State::ram_record;
  return section_start_bytes;
}

Result<std::size_t> StreamParser::parse_ram_record(std::span<const std::byte> window, Sink& sink) {
  // What is wrong is always found in the order of the bytes, or the answer would depend on how the
  // stream was cut.
  if (window.size() < record_head_bytes) return wait_for(record_head_bytes);
  const auto head = load_be<std::uint64_t>(window.data());
  const std::uint64_t flags = head & flags_mask;
  const std::uint64_t offset = head & ~flags_mask;
  if (!has_one_known_meaning(flags)) [[unlikely]] {
    return error_here(Errc::protocol, describe_bad_flags(flags));
  }
  if (flags == flag_eos) {
    if (offset != 0) {
      return error_here(Errc::protocol,
                        "an end of section (EOS) has the page offset " + hex(offset));
    }
    state_ = State::section_tail;
    return record_head_bytes;
  }
  if (offset >= limits_.ram_bytes_max) [[unlikely]] {
    return error_here(Errc::limit, "the page offset " + hex(offset) + " is not below " +
                                       hex(limits_.ram_bytes_max));
  }
  if (records_ == limits_.records_max) [[unlikely]] {
    return error_here(Errc::limit, "the checkpoint has more than " +
                                       std::to_string(limits_.records_max) + " pages");
  }

  const std::size_t payload_bytes = (flags & flag_page) != 0 ? page_size : 1;
  std::size_t payload_at = record_head_bytes;
  std::string_view new_block;
  if ((flags & flag_continue) == 0) {
    if (window.size() == record_head_bytes) return wait_for(record_head_bytes + 2 + payload_bytes);
    const auto name_size = std::to_integer<std::size_t>(window[record_head_bytes]);
    if (name_size == 0) return error_here(Errc::protocol, "a ram record has an empty block name");
    payload_at += 1 + name_size;
    if (window.size() < payload_at) return wait_for(payload_at + payload_bytes);
    new_block = {reinterpret_cast<const char*>(&window[record_head_bytes + 1]), name_size};
    if (new_block.find('\0') != std::string_view::npos) {
      return error_here(Errc::protocol, "a ram record has a block name with a zero byte in it");
    }
  }
  const std::size_t record_bytes = payload_at + payload_bytes;
  if (window.size() < record_bytes) return wait_for(record_bytes);

  if (!new_block.empty()) block_.assign(new_block);
  ++records_;
  const auto payload = window.subspan(payload_at, payload_bytes);
  if (payload_bytes == page_size) {
    sink.on_page(block_, offset, payload);
  } else {
    sink.on_zero_page(block_, offset, payload[0]);
  }
  return record_bytes;
}

Result<std::size_t> StreamParser::parse_section_tail(std::span<const std::byte> window) {
  // The footer is there or not as the primary's machine type has it.
  if (window.empty()) return wait_for(1);
  if (window[0] != section_footer) {
    state_ = State::section_or_end;
    return parse_section_start(window);
  }
  if (window.size() < section_footer_bytes) return wait_for(section_footer_bytes);
  const auto id = load_be<std::uint32_t>(&window[1]);
  if (id != section_id_) {
    return error_here(Errc::protocol, "the footer is of section " + std::to_string(id) +
                                          ", but the section at hand is " +
                                          std::to_string(section_id_));
  }
  state_ = State::section_or_end;
  return section_footer_bytes;
}

Result<std::size_t> StreamParser::parse_size(std::span<const std::byte> window, Sink& sink) {
  if (window.size() < message_bytes) return wait_for(size_message_bytes);
  const auto value = load_be<std::uint32_t>(window.data());
  if (value != static_cast<std::uint32_t>(Message::vmstate_size)) {
    return error_here(Errc::protocol, "expected the message VMSTATE_SIZE, found " + hex(value) +
                                          " (" + std::string(to_string(Message{value})) + ")");
  }
  if (window.size() < size_message_bytes) return wait_for(size_message_bytes);
  const auto size = load_be<std::uint64_t>(&window[message_bytes]);
  if (size == 0) return error_here(Errc::protocol, "the device state has no bytes");
  if (size > limits_.device_state_bytes_max) {
    return error_here(Errc::limit, "the device state has " + std::to_string(size) +
                                       " bytes, more than the limit of " +
                                       std::to_string(limits_.device_state_bytes_max));
  }
  device_state_left_ = size;
  state_ = State::device_state;
  sink.on_device_state_size(size);
  return size_message_bytes;
}

std::size_t StreamParser::pass_device_state(std::span<const std::byte> window, Sink& sink) {
  if (window.empty()) return wait_for(1);
  const std::size_t size = std::min<std::uint64_t>(window.size(), device_state_left_);
  device_state_left_ -= size;
  sink.on_device_state(window.first(size));
  if (device_state_left_ == 0) {
    state_ = State::idle;
    sink.on_checkpoint_end();
  }
  return size;
}

}  // namespace tandem::colo
