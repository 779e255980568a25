#include "qmp/line_reader.hpp"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <string>

namespace tandem::qmp {

std::span<char> LineReader::prepare() {
  if (begin_ != 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    scanned_ -= begin_;
    begin_ = 0;
  }
  // One answer of many megabytes must not make the connection keep them for the rest of its life.
  if (end_ == 0 && buffer_.size() > 16 * read_bytes) buffer_ = std::vector<char>();
  if (buffer_.size() - end_ < read_bytes) {
    buffer_.resize(std::max(end_ + read_bytes, std::min(2 * end_, line_bytes_max_ + read_bytes)));
  }
  return {buffer_.data() + end_, read_bytes};
}

void LineReader::commit(std::size_t bytes) {
  assert(bytes <= buffer_.size() - end_);
  end_ += bytes;
}

Result<std::optional<std::string_view>> LineReader::next() {
  const char* const data = buffer_.data();
  const void* const found =
      scanned_ == end_ ? nullptr : std::memchr(data + scanned_, '\n', end_ - scanned_);
  const std::size_t line_end =
      found == nullptr ? end_ : static_cast<std::size_t>(static_cast<const char*>(found) - data);
  std::size_t length = line_end - begin_;
  // The '\r' is left out of the count even before the '\n' has come, so that a line of the greatest
  // length is accepted wherever it was cut.
  if (length > 0 && data[line_end - 1] == '\r') --length;
  if (length > line_bytes_max_) {
    return Error{Errc::limit,
                 "a line is longer than the " + std::to_string(line_bytes_max_) + " bytes allowed"};
  }
  scanned_ = line_end;
  if (found == nullptr) return std::optional<std::string_view>();
  const std::string_view line(data + begin_, length);
  begin_ = scanned_ = line_end + 1;
  return std::optional<std::string_view>(line);
}

}  // namespace tandem::qmp
