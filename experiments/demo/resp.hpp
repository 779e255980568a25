// The redis protocol (RESP2) as far as the demo's client needs it, without I/O: commands to bytes,
// bytes to replies. https://redis.io/docs/reference/protocol-spec
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.hpp"

namespace tandem::demo {

/// A reply. Arrays are not among them: no command of the client is answered by one.
struct RespValue {
  enum class Kind { simple, error, integer, bulk, nil };
  Kind kind = Kind::nil;
  std::string text;          ///< simple, error, bulk
  std::int64_t integer = 0;  ///< integer
  friend bool operator==(const RespValue&, const RespValue&) = default;
};

/// A command as an array of bulk strings.
std::string encode_command(std::initializer_list<std::string_view> words);

/// Bytes in, in pieces of any size; replies out. After an error it stays in that error.
class RespParser {
 public:
  struct Limits {
    std::size_t line_bytes = 1024;       ///< a type line, its end included
    std::size_t bulk_bytes = 64 * 1024;  ///< the contents of a bulk string
    std::size_t buffered_bytes = 1024 * 1024;
  };

  RespParser() : RespParser(Limits()) {}
  explicit RespParser(Limits limits) : limits_(limits) {}

  /// Errc::limit if more would be kept than is allowed.
  Result<void> feed(std::string_view bytes);
  /// The next whole reply, or nothing if more bytes are needed. Errc::protocol or ::limit for what
  /// is not RESP2 or not expected.
  Result<std::optional<RespValue>> next();

 private:
  Result<std::optional<RespValue>> parse();
  Error fail(Errc code, std::string message);

  Limits limits_;
  std::string buffer_;
  std::size_t consumed_ = 0;
  std::optional<Error> failed_;
};

}  // namespace tandem::demo
