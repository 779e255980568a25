// Tandem's own wire protocol between two daemons, without I/O. docs/protocol.md describes it.
//
// A pair of VMs uses three lanes, each a reliable byte stream of its own: bulk (the initial stream
// and the checkpoints), packet (the guest's packets in COLO mode) and control. A lane begins with a
// hello from the primary's side and its answer; then come frames. All integers are big-endian,
// every length is checked against the limit of its frame type before a byte is stored.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"

namespace tandem::wire {

/// Raised with every change that an older daemon would misunderstand; peers must have the same.
inline constexpr std::uint16_t protocol_version = 3;

enum class LaneKind : std::uint16_t { bulk = 1, packet = 2, control = 3 };
std::string_view to_string(LaneKind kind) noexcept;

/// The first bytes on a lane: "TNDM", be16 version, be16 kind (an answer: status), be32 length of a
/// text. In a hello the text is a JSON object; in an answer it is empty or says why not.
inline constexpr std::size_t hello_header_size = 12;
inline constexpr std::size_t hello_text_max = 64u << 10;

struct HelloHeader {
  LaneKind kind;
  std::uint32_t text_length;
};

enum class HelloStatus : std::uint16_t { accepted = 0, refused = 1 };

struct HelloAnswerHeader {
  HelloStatus status;
  std::uint32_t text_length;
};

std::vector<std::byte> encode_hello(LaneKind kind, std::string_view json);
std::vector<std::byte> encode_hello_answer(HelloStatus status, std::string_view text);
/// Errc::protocol: not Tandem, or an unknown lane; ::refused: another protocol version, both named.
Result<HelloHeader> decode_hello(std::span<const std::byte, hello_header_size> bytes);
Result<HelloAnswerHeader> decode_hello_answer(std::span<const std::byte, hello_header_size> bytes);

enum class FrameType : std::uint32_t {
  // bulk lane
  stream = 1,  ///< a piece of the initial migration stream, opaque
  checkpoint =
      2,  ///< checkpoint `number`, followed by its digest (digest_size bytes, not in `length`)
  translations = 3,  ///< the connections that the primary's host translates, as of checkpoint
                     ///< `number`, which follows; holds until the next frame of this type
  // packet and control lane
  heartbeat = 16,
  // control lane
  setup = 17,        ///< JSON: what the secondary must start
  setup_done = 18,   ///< the secondary's QEMU waits for the stream
  failed = 19,       ///< text for people: the sender gives the pair up
  return_path = 20,  ///< bytes of QEMU's return path, secondary to primary, before COLO begins
  ready = 21,        ///< the secondary VM is in COLO: checkpoint 0 is committed
  committed = 22,    ///< checkpoint `number` is whole, verified, and will be loaded
  loaded = 23,       ///< the secondary VM has loaded checkpoint `number`
  take_over = 24,    ///< JSON {"reason"}: the primary VM has ended for good; go on
  end = 25,          ///< JSON {"reason"}: protection ends, the secondary VM is not needed any more
  ask = 26,          ///< JSON {"reason"}: the secondary's host wants a checkpoint
  // packet lane; `number` is the epoch, the payload be32 index of the NIC and whole frames in the
  // framing of QEMU's filter chardevs
  input = 32,      ///< what clients have sent to the primary VM
  reference = 33,  ///< the primary VM's SYN segments, which the secondary's are measured against
  output = 34,     ///< what the secondary VM has sent
};
std::string_view to_string(FrameType type) noexcept;

inline constexpr std::size_t frame_header_size = 24;
inline constexpr std::size_t stream_piece_max = 1u << 20;
inline constexpr std::size_t control_payload_max = 256u << 10;
inline constexpr std::size_t packet_payload_max = 512u << 10;
inline constexpr std::size_t translations_payload_max = 4u << 20;
inline constexpr std::size_t digest_size = 16;  ///< XXH3, 128 bits, canonical byte order

/// A flag of checkpoint frames: the secondary VM runs in the epoch that begins with it (COLO mode).
inline constexpr std::uint32_t flag_runs = 1;

struct FrameHeader {
  FrameType type;
  std::uint64_t number = 0;  ///< checkpoint, epoch or sequence number
  std::uint64_t length = 0;  ///< payload bytes that follow
  std::uint32_t flags = 0;
  friend bool operator==(const FrameHeader&, const FrameHeader&) = default;
};

std::array<std::byte, frame_header_size> encode_frame(const FrameHeader& header);

/// `checkpoint_max` bounds a checkpoint's length. Errc::protocol: an unknown type, one that does
/// not belong on this lane, or unknown flags; ::limit: too long.
Result<FrameHeader> decode_frame(std::span<const std::byte, frame_header_size> bytes, LaneKind lane,
                                 std::uint64_t checkpoint_max);

}  // namespace tandem::wire
