// What QEMU's monitor says, read from one line of JSON: a greeting, an event or a reply.
//
// Promises: no line, however malformed, does more than return an error; every field that is handed
// on has the type and range that QEMU's documentation (docs/interop/qmp-spec) gives it; nesting is
// bounded.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>
#include <variant>

#include "base/error.hpp"
#include "qmp/client.hpp"

namespace tandem::qmp {

struct Greeting {
  Version version;
  bool offers_out_of_band = false;
};

struct Reply {
  std::uint64_t id = 0;
  /// The "return" value, or Errc::refused with QEMU's class and text.
  Result<nlohmann::json> outcome;
};

using Message = std::variant<Greeting, Event, Reply>;

/// Deeper nesting is refused; QEMU's own answers stay below 20.
inline constexpr int nesting_max = 128;

/// Reads one message. Errc::protocol: not JSON, or not the shape of any message; ::limit: nested
/// too deep.
Result<Message> parse_message(std::string_view line);

}  // namespace tandem::qmp
