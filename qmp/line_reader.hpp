// Cuts the bytes of a QMP connection into lines.
//
// Promises: the same lines come out however the bytes were cut on their way; it holds at most one
// line of the given length and one read more, whatever the peer sends; no byte is scanned twice for
// a line's end.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/error.hpp"

namespace tandem::qmp {

class LineReader {
 public:
  /// `line_bytes_max` counts a line without its end ("\n" or "\r\n").
  explicit LineReader(std::size_t line_bytes_max) : line_bytes_max_(line_bytes_max) {}

  /// Where the next bytes are to be put. Valid until the next call of prepare(); call next() until
  /// it has no line left before.
  std::span<char> prepare();

  /// `bytes` of what prepare() returned have been filled.
  void commit(std::size_t bytes);

  /// The next whole line without its end, nothing if there is none yet; valid until prepare().
  /// Errc::limit: the line is longer than allowed, ended or not.
  Result<std::optional<std::string_view>> next();

  /// Whether a line has begun that has not ended.
  [[nodiscard]] bool in_line() const noexcept { return begin_ != end_; }

 private:
  static constexpr std::size_t read_bytes = std::size_t{64} << 10;

  std::size_t line_bytes_max_;
  std::vector<char> buffer_;
  std::size_t begin_ = 0;    ///< of the first line not handed out
  std::size_t scanned_ = 0;  ///< no line ends in [begin_, scanned_)
  std::size_t end_ = 0;      ///< of the bytes that have arrived
};

}  // namespace tandem::qmp
