#include "qmp/message.hpp"

#include <algorithm>
#include <chrono>
#include <limits>
#include <optional>
#include <string>
#include <utility>

namespace tandem::qmp {
namespace {

using nlohmann::json;

/// Whether brackets outside of strings nest at most `depth_max` deep. Right for all valid JSON;
/// what it says of anything else does not matter, for the parser refuses that.
bool nested_within(std::string_view text, int depth_max) {
  int depth = 0;
  bool in_string = false;
  bool escaped = false;
  for (const char c : text) {
    if (in_string) {
      if (escaped) {
        escaped = false;
      } else if (c == '\\') {
        escaped = true;
      } else if (c == '"') {
        in_string = false;
      }
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > depth_max) return false;
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return true;
}

/// The beginning of the line, made printable, for error messages.
std::string excerpt(std::string_view line) {
  constexpr std::size_t length_max = 80;
  std::string text(line.substr(0, length_max));
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c < 0x20 || c > 0x7e; }, '?');
  if (line.size() > length_max) text += "...";
  return "'" + text + "'";
}

Error malformed(std::string_view what, std::string_view line) {
  return {Errc::protocol, std::string(what) + " in " + excerpt(line)};
}

/// The member `name` of `object`, or null if it is not there.
const json* member(const json& object, const char* name) {
  const auto found = object.find(name);
  return found == object.end() ? nullptr : &*found;
}

/// The integer member `name` of `object` if there is one and it lies in [low, high].
std::optional<std::int64_t> integer(const json& object, const char* name, std::int64_t low,
                                    std::int64_t high) {
  const json* const value = member(object, name);
  if (value == nullptr || !value->is_number_integer()) return std::nullopt;
  if (value->is_number_unsigned() &&
      value->get<std::uint64_t>() >
          static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
    return std::nullopt;
  }
  const auto number = value->get<std::int64_t>();
  if (number < low || number > high) return std::nullopt;
  return number;
}

Result<Message> parse_greeting(const json& greeting, std::string_view line) {
  if (!greeting.is_object()) return malformed("the greeting is not an object", line);
  const json* const version = member(greeting, "version");
  if (version == nullptr || !version->is_object()) {
    return malformed("the greeting has no version", line);
  }
  const json* const qemu = member(*version, "qemu");
  if (qemu == nullptr || !qemu->is_object()) {
    return malformed("the greeting has no QEMU version", line);
  }
  constexpr std::int64_t number_max = 1'000'000;
  const auto major = integer(*qemu, "major", 0, number_max);
  const auto minor = integer(*qemu, "minor", 0, number_max);
  const auto micro = integer(*qemu, "micro", 0, number_max);
  if (!major || !minor || !micro) return malformed("the greeting has no version numbers", line);

  Greeting result;
  result.version.major = static_cast<int>(*major);
  result.version.minor = static_cast<int>(*minor);
  result.version.micro = static_cast<int>(*micro);
  if (const json* const package = member(*version, "package"); package != nullptr) {
    if (!package->is_string()) return malformed("the greeting's package is not a string", line);
    result.version.package = package->get<std::string>();
  }
  // A monitor from before 2.12 names no capabilities.
  if (const json* const capabilities = member(greeting, "capabilities"); capabilities != nullptr) {
    if (!capabilities->is_array()) {
      return malformed("the greeting's capabilities are not a list", line);
    }
    for (const json& capability : *capabilities) {
      if (capability.is_string() && capability.get_ref<const std::string&>() == "oob") {
        result.offers_out_of_band = true;
      }
    }
  }
  return Message(std::move(result));
}

Result<Message> parse_event(json& message, std::string_view line) {
  Event event;
  const json& name = message["event"];
  if (!name.is_string()) return malformed("the event's name is not a string", line);
  event.name = name.get<std::string>();

  const json* const timestamp = member(message, "timestamp");
  if (timestamp == nullptr || !timestamp->is_object()) {
    return malformed("an event without a timestamp", line);
  }
  // QEMU says -1, -1 when the host's clock could not be read. The upper end keeps system_clock's
  // nanoseconds within 64 bits.
  constexpr std::int64_t seconds_max = 9'000'000'000;
  const auto seconds = integer(*timestamp, "seconds", -1, seconds_max);
  const auto microseconds = integer(*timestamp, "microseconds", -1, 999'999);
  if (!seconds || !microseconds) return malformed("an event with a wrong timestamp", line);
  if (*seconds >= 0 && *microseconds >= 0) {
    event.at = std::chrono::system_clock::time_point(std::chrono::seconds(*seconds) +
                                                     std::chrono::microseconds(*microseconds));
  }

  event.data = json::object();
  if (const auto data = message.find("data"); data != message.end()) {
    if (!data->is_object()) return malformed("the event's data is not an object", line);
    event.data = std::move(*data);
  }
  return Message(std::move(event));
}

/// QEMU's error, as the text "class: description".
Result<std::string> error_text(const json& error, std::string_view line) {
  if (!error.is_object()) return malformed("the error is not an object", line);
  const json* const kind = member(error, "class");
  const json* const description = member(error, "desc");
  if (kind == nullptr || !kind->is_string() || description == nullptr ||
      !description->is_string()) {
    return malformed("an error without class and text", line);
  }
  return kind->get<std::string>() + ": " + description->get<std::string>();
}

Result<Message> parse_reply(json& message, std::string_view line) {
  const auto returned = message.find("return");
  const auto error = message.find("error");
  std::string refusal;
  if (error != message.end()) {
    auto text = error_text(*error, line);
    if (!text) return text.error();
    refusal = std::move(*text);
  }
  const json* const id = member(message, "id");
  if (id == nullptr && error != message.end()) {
    // QEMU leaves the id out when it could not even read what it was sent.
    return Error{Errc::protocol, "QEMU did not understand what it was sent: " + refusal};
  }
  if (id == nullptr || !id->is_number_unsigned()) return malformed("a reply without an id", line);

  if (error != message.end()) {
    return Message(Reply{id->get<std::uint64_t>(), Error{Errc::refused, std::move(refusal)}});
  }
  return Message(Reply{id->get<std::uint64_t>(),
                       Result<json>(boost::system::in_place_value, std::move(*returned))});
}

}  // namespace

Result<Message> parse_message(std::string_view line) {
  if (!nested_within(line, nesting_max)) {
    return Error{Errc::limit, "a message is nested deeper than " + std::to_string(nesting_max) +
                                  " levels: " + excerpt(line)};
  }
  json message = json::parse(line.begin(), line.end(), nullptr, /*allow_exceptions=*/false);
  if (message.is_discarded()) return malformed("no JSON", line);
  if (!message.is_object()) return malformed("JSON that is not an object", line);

  int kinds = 0;
  for (const char* const kind : {"QMP", "event", "return", "error"}) {
    if (message.contains(kind)) ++kinds;
  }
  if (kinds != 1) return malformed("neither greeting, event nor reply", line);
  if (message.contains("QMP")) return parse_greeting(message["QMP"], line);
  if (message.contains("event")) return parse_event(message, line);
  return parse_reply(message, line);
}

}  // namespace tandem::qmp
