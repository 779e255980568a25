#include "experiments/demo/resp.hpp"

#include <charconv>

namespace tandem::demo {
namespace {

std::optional<std::int64_t> parse_integer(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (problem != std::errc{} || end != text.data() + text.size() || text.empty())
    return std::nullopt;
  return value;
}

}  // namespace

std::string encode_command(std::initializer_list<std::string_view> words) {
  std::string bytes = "*" + std::to_string(words.size()) + "\r\n";
  for (const auto word : words) {
    bytes += "$" + std::to_string(word.size()) + "\r\n";
    bytes += word;
    bytes += "\r\n";
  }
  return bytes;
}

Error RespParser::fail(Errc code, std::string message) {
  failed_ = Error{code, std::move(message)};
  return *failed_;
}

Result<void> RespParser::feed(std::string_view bytes) {
  if (failed_) return *failed_;
  buffer_.erase(0, consumed_);
  consumed_ = 0;
  if (buffer_.size() + bytes.size() > limits_.buffered_bytes)
    return fail(Errc::limit, "redis sent more than " + std::to_string(limits_.buffered_bytes) +
                                 " bytes that nobody took");
  buffer_ += bytes;
  return {};
}

Result<std::optional<RespValue>> RespParser::next() {
  if (failed_) return *failed_;
  return parse();
}

Result<std::optional<RespValue>> RespParser::parse() {
  using Kind = RespValue::Kind;
  const std::string_view rest = std::string_view(buffer_).substr(consumed_);
  const auto end = rest.find("\r\n");
  if (end == std::string_view::npos || end + 2 > limits_.line_bytes) {
    if (rest.size() >= limits_.line_bytes)
      return fail(Errc::limit, "redis sent a line of more than " +
                                   std::to_string(limits_.line_bytes) + " bytes");
    return std::optional<RespValue>();
  }
  if (end == 0) return fail(Errc::protocol, "redis sent an empty line where a reply begins");
  const char type = rest[0];
  const std::string_view line = rest.substr(1, end - 1);
  std::size_t used = end + 2;
  RespValue value;
  switch (type) {
    case '+':
    case '-':
      value.kind = type == '+' ? Kind::simple : Kind::error;
      value.text = line;
      break;
    case ':': {
      const auto number = parse_integer(line);
      if (!number) return fail(Errc::protocol, "redis sent an integer that is none");
      value.kind = Kind::integer;
      value.integer = *number;
      break;
    }
    case '$': {
      const auto length = parse_integer(line);
      if (!length || *length < -1) return fail(Errc::protocol, "redis sent a length that is none");
      if (*length == -1) break;  // nil
      if (static_cast<std::uint64_t>(*length) > limits_.bulk_bytes)
        return fail(Errc::limit, "redis sent a value of " + std::to_string(*length) + " bytes; " +
                                     std::to_string(limits_.bulk_bytes) + " are accepted");
      const auto size = static_cast<std::size_t>(*length);
      if (rest.size() < used + size + 2) return std::optional<RespValue>();
      if (rest.substr(used + size, 2) != "\r\n")
        return fail(Errc::protocol, "redis sent a value that does not end where it says");
      value.kind = Kind::bulk;
      value.text = rest.substr(used, size);
      used += size + 2;
      break;
    }
    default:
      return fail(Errc::protocol,
                  std::string("redis sent a reply of a type that is not expected: '") + type + "'");
  }
  consumed_ += used;
  return std::optional<RespValue>(std::move(value));
}

}  // namespace tandem::demo
