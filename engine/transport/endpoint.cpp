#include <charconv>

#include "engine/transport/tcp.hpp"

namespace tandem::transport {

Result<Endpoint> parse_endpoint(std::string_view text) {
  const auto bad = [&] {
    return Error{
        Errc::invalid_input,
        "\"" + std::string(text) + "\" is not an address: expected HOST:PORT or [IPV6]:PORT"};
  };
  const auto colon = text.rfind(':');
  if (colon == std::string_view::npos) return bad();
  auto host = text.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string_view::npos) {
    return bad();
  }
  const auto digits = text.substr(colon + 1);
  std::uint16_t port = 0;
  const auto [end, ec] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (host.empty() || ec != std::errc{} || end != digits.data() + digits.size()) return bad();
  return Endpoint{std::string(host), port};
}

}  // namespace tandem::transport
