// The last frames that the comparer has seen, and what became of each, for a person who wants to
// know why their service mismatches.
//
// Nothing is recorded until somebody asks, nor when nobody has asked for a while. A bounded ring:
// the oldest records go first, and whoever had not read them is told how many. Single-threaded, no
// I/O.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::session {

/// Who sent a frame.
enum class TraceSide : std::uint8_t { primary, secondary, client };
std::string_view to_string(TraceSide side) noexcept;

struct TraceLimits {
  std::size_t records_max = 10'000;
  std::size_t bytes_max = 4u << 20;  ///< of frames and comments
  std::size_t answer_records_max = 2'000;
  std::size_t answer_bytes_max = 2u << 20;  ///< of JSON, unless one record alone has more
  std::size_t comment_bytes_max = 512;      ///< the rest is cut off
  std::chrono::seconds idle_max{10};        ///< recording ends so long after the last reading
};

class TraceBuffer {
 public:
  using Time = std::chrono::steady_clock::time_point;

  /// `nics`: their names, which records refer to by index.
  explicit TraceBuffer(std::vector<std::string> nics, TraceLimits limits = {});

  /// Whether to call add().
  [[nodiscard]] bool active() const noexcept { return last_read_.has_value(); }
  /// Somebody reads: recording begins, or goes on.
  void touch(Time now);
  /// Ends the recording if nobody has read for too long; true if that was so. What was recorded is
  /// forgotten.
  bool expired(Time now);

  /// `frame`: in the framing of QEMU's filter chardevs; what is kept of it is the Ethernet frame.
  /// Does nothing while nothing is recorded.
  void add(std::chrono::system_clock::time_point time, std::size_t nic, TraceSide side,
           std::uint64_t epoch, std::span<const std::byte> frame, std::string comment);

  /// The number of the newest record, 0 if there was none.
  [[nodiscard]] std::uint64_t last() const noexcept { return last_; }
  /// The records after number `seq`, as many as an answer may hold, as docs/api.md has it. A number
  /// that no record has yet is from before a restart: then it is all of them.
  [[nodiscard]] nlohmann::json after(std::uint64_t seq) const;

  [[nodiscard]] std::size_t size() const noexcept { return records_.size(); }
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }
  /// Records that went for want of room, read or not.
  [[nodiscard]] std::uint64_t evicted() const noexcept { return evicted_; }

 private:
  struct Record {
    std::uint64_t seq = 0;
    std::chrono::system_clock::time_point time;
    std::size_t nic = 0;
    TraceSide side{};
    std::uint64_t epoch = 0;
    std::string comment;
    std::vector<std::byte> frame;

    [[nodiscard]] std::size_t bytes() const noexcept { return comment.size() + frame.size(); }
  };
  [[nodiscard]] nlohmann::json to_json(const Record& record) const;

  std::vector<std::string> nics_;
  TraceLimits limits_;
  std::optional<Time> last_read_;
  std::deque<Record> records_;
  std::size_t bytes_ = 0;
  std::uint64_t last_ = 0;
  std::uint64_t evicted_ = 0;
};

}  // namespace tandem::session
