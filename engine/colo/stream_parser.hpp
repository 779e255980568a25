// An incremental parser of QEMU's COLO stream, primary to secondary, from CHECKPOINT_READY on.
//
// Sans-I/O: the caller owns the bytes, the parser only looks at them. It keeps no copy and
// allocates nothing a page. What it does not know it refuses by name, for a record that is skipped
// is a page that is lost. Format: QEMU migration/colo.c (messages), migration/ram.c (ram records),
// migration/savevm.c (sections); all integers are big-endian.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/error.hpp"

namespace tandem::colo {

/// COLOMessage of QEMU's qapi/migration.json, be32 on the wire.
enum class Message : std::uint32_t {
  checkpoint_ready = 0,
  checkpoint_request = 1,
  checkpoint_reply = 2,
  vmstate_send = 3,
  vmstate_size = 4,
  vmstate_received = 5,
  vmstate_loaded = 6,
};
std::string_view to_string(Message message) noexcept;

inline constexpr std::size_t page_size = 4096;
inline constexpr std::size_t block_name_size_max = 255;
/// No element but the device state is longer: a record's head, a block name with its length, and a
/// page.
inline constexpr std::size_t element_bytes_max = 8 + 1 + block_name_size_max + page_size;

struct ParserLimits {
  std::uint64_t device_state_bytes_max = 64u << 20;
  std::uint64_t sections_max = 64;                     ///< in one checkpoint
  std::uint64_t records_max = std::uint64_t{1} << 28;  ///< ram records in one checkpoint
  std::uint64_t ram_bytes_max = std::uint64_t{1}
                                << 40;  ///< no page may lie at or above this offset
};

/// Receives what the parser recognises. Every method is called in stream order.
class Sink {
 public:
  virtual ~Sink() = default;
  /// REQUEST outside a checkpoint, or SEND at its beginning.
  virtual void on_message(Message) {}
  /// A whole page. `block` is the name of its RAM block: the last one named, in this checkpoint or
  /// in one before. It is empty until this parser has seen the first name; the block is then the
  /// last one that the initial migration named. `bytes` is page_size long and points into the
  /// caller's buffer.
  virtual void on_page(std::string_view, std::uint64_t /*offset*/, std::span<const std::byte>) {}
  /// A page filled with one byte value.
  virtual void on_zero_page(std::string_view, std::uint64_t /*offset*/, std::byte /*fill*/) {}
  /// VMSTATE_SIZE and its length, never 0: the device state follows.
  virtual void on_device_state_size(std::uint64_t) {}
  /// A piece of the device state, opaque, in the caller's buffer.
  virtual void on_device_state(std::span<const std::byte>) {}
  /// The last byte of the checkpoint has been seen.
  virtual void on_checkpoint_end() {}
};

class StreamParser {
 public:
  explicit StreamParser(ParserLimits limits = {});

  /// Looks at `window`, which begins with the first byte not yet consumed, and reports every
  /// complete element in it. Returns how many bytes it consumed; the caller presents the rest again
  /// with more bytes behind it. Any way of cutting the stream into windows reports the same, except
  /// that the device state comes in pieces as they arrive.
  ///
  /// With `stop_after_message`, parsing pauses behind each message that on_message reported.
  ///
  /// Errc::protocol: a record or message that is unknown or out of place, by name and value;
  /// ::limit: a length beyond the limits. The parser is then of no further use and repeats that
  /// error.
  Result<std::size_t> parse(std::span<const std::byte> window, Sink& sink,
                            bool stop_after_message = false);

  /// Between checkpoints: the next bytes must be a REQUEST.
  [[nodiscard]] bool idle() const noexcept;
  /// How many more bytes are certainly needed before anything more can be consumed, when
  /// `window_size` bytes have been left unconsumed by the last parse; at least 1. A reader may
  /// always wait for that many: the stream cannot pause before them. Never more than
  /// element_bytes_max.
  [[nodiscard]] std::size_t bytes_needed(std::size_t window_size) const noexcept;

 private:
  enum class State {
    idle,
    expect_send,
    section_or_end,
    ram_record,
    section_tail,
    size,
    device_state
  };

  /// Consumes one element at the window's start. Returns its length, 0 if it is not whole yet.
  Result<std::size_t> parse_element(std::span<const std::byte> window, Sink& sink);
  Result<std::size_t> parse_message(std::span<const std::byte> window, Message expected,
                                    Sink& sink);
  Result<std::size_t> parse_section_start(std::span<const std::byte> window);
  Result<std::size_t> parse_ram_record(std::span<const std::byte> window, Sink& sink);
  Result<std::size_t> parse_section_tail(std::span<const std::byte> window);
  Result<std::size_t> parse_size(std::span<const std::byte> window, Sink& sink);
  std::size_t pass_device_state(std::span<const std::byte> window, Sink& sink);
  /// Notes that the element at hand has at least `size` bytes, and returns 0: not whole yet.
  std::size_t wait_for(std::size_t size) noexcept;
  /// An error that says where in the stream it was found.
  Error error_here(Errc code, std::string_view what) const;

  ParserLimits limits_;
  State state_ = State::idle;
  std::uint64_t position_ = 0;  ///< of the element at hand, in bytes since this parser began
  std::size_t element_bytes_needed_;
  std::uint64_t device_state_left_ = 0;
  std::uint64_t sections_ = 0;
  std::uint64_t records_ = 0;
  std::uint32_t section_id_ = 0;
  std::string block_;  ///< at most 255 characters, its memory is kept
  std::optional<Error> error_;
};

}  // namespace tandem::colo
