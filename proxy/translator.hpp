// Translates TCP between the numbers that a VM uses and those that its clients see.
//
// The secondary VM draws its own initial sequence numbers and timestamps for connections opened
// since the last checkpoint. The translator learns the difference from both VMs' SYN segments and
// takes it out of everything that passes: sequence and acknowledgement numbers, SACK blocks,
// timestamps and their echoes, with checksums and offload flags kept right. Connections that a
// loaded checkpoint carries need none of it, unless they needed it on the primary's host, too: such
// offsets survive a failover and travel to the next secondary as a table.
//
// Pure: whole frames in chardev framing go in and come out.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/error.hpp"
#include "proxy/packet.hpp"

namespace tandem::proxy {

/// What a VM's numbers need to become its clients'.
struct Offsets {
  std::uint32_t sequence = 0;   ///< client's minus VM's
  std::uint32_t timestamp = 0;  ///< client's minus VM's
  friend bool operator==(const Offsets&, const Offsets&) = default;
};

struct Translation {
  FlowKey flow;
  Offsets offsets;
  friend bool operator==(const Translation&, const Translation&) = default;
};

/// The connections that need translating, and how. Part of a pair's state.
using TranslationTable = std::vector<Translation>;

inline constexpr std::size_t translations_max = 65'536;
/// Bytes of the largest encoded table.
inline constexpr std::size_t encoded_translations_max = 6 + 46 * translations_max;
/// SYNs of the VM that may wait for their reference at once; beyond, they pass untranslated.
inline constexpr std::size_t held_frames_max = 1024;
inline constexpr std::size_t held_bytes_max = 1u << 20;
/// How long a connection that was closed both ways may still be repeating its last segments.
inline constexpr std::chrono::seconds time_wait{60};

std::vector<std::byte> encode(const TranslationTable& table);
/// Errc::protocol for anything but an encoded table; ::limit beyond translations_max.
Result<TranslationTable> decode_translations(std::span<const std::byte> bytes);

struct TranslatorCounters {
  std::uint64_t translated_frames = 0;
  std::uint64_t learned_flows = 0;
  std::uint64_t held_frames = 0;    ///< SYNs of the VM that waited for their reference
  std::uint64_t refused_flows = 0;  ///< no room: left untranslated, which the comparer notices
  std::uint64_t unparsable_frames = 0;
};

class Translator {
 public:
  using Time = std::chrono::steady_clock::time_point;

  Translator();
  ~Translator();
  Translator(Translator&&) noexcept;
  Translator& operator=(Translator&&) noexcept;

  /// The VM has loaded a checkpoint: what was learned since is void, and `table` holds.
  void reset(const TranslationTable& table);
  /// From now on (off by default) SYN segments from the VM wait for the reference that they are
  /// measured against. Off: whatever waits is forgotten, and new connections need no translation.
  void learn(bool on);

  /// Whole frames from the VM; appends what may go on to `out`, translated. While learning, a SYN
  /// whose reference has not come yet is kept back.
  void from_guest(std::span<const std::byte> frames, std::vector<std::byte>& out, Time now);
  /// Whole frames for the VM, as clients sent them.
  void to_guest(std::span<const std::byte> frames, std::vector<std::byte>& out, Time now);
  /// SYN segments of the primary VM, in the numbers that clients see. Appends SYNs of this VM that
  /// waited for them.
  void reference(std::span<const std::byte> frames, std::vector<std::byte>& out, Time now);

  /// Forgets connections that have ended: reset, or closed both ways long enough ago.
  void sweep(Time now);
  /// No connection needs translating: frames pass unchanged, and need not pass here at all.
  [[nodiscard]] bool idle() const noexcept;
  [[nodiscard]] TranslationTable table() const;
  [[nodiscard]] std::size_t size() const noexcept;
  [[nodiscard]] const TranslatorCounters& counters() const noexcept;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tandem::proxy
