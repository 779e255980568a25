// The client of tandemd's API: JSON over HTTP/1.1 on the daemon's unix socket. The command line,
// the demo and the tests all use this one.
//
// Each call makes a connection of its own and waits for the answer, so an object may be copied and
// used by several threads at once. Errors that the daemon answers come back as the same
// tandem::Error.
#pragma once

#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.hpp"

namespace tandem::api {

class ApiClient {
 public:
  explicit ApiClient(std::filesystem::path socket) : socket_(std::move(socket)) {}

  /// `target` begins with "/v1/". Errors: what the daemon said; Errc::unavailable if none listens,
  /// ::permission if this user may not ask it, ::timed_out (connection, request and answer
  /// together),
  /// ::closed if it went away before it had answered, ::protocol for an answer that is not its
  /// API's,
  /// ::limit for one of more than 16 MiB.
  Result<nlohmann::json> get(const std::string& target, std::chrono::milliseconds timeout) const;
  Result<nlohmann::json> post(const std::string& target, const nlohmann::json& body,
                              std::chrono::milliseconds timeout) const;

  [[nodiscard]] const std::filesystem::path& socket() const noexcept { return socket_; }

 private:
  std::filesystem::path socket_;
};

/// The Errc that to_string() writes so.
std::optional<Errc> errc_from_string(std::string_view name) noexcept;

/// The error that an answer of this HTTP status and body stands for.
Error error_from_answer(unsigned status, std::string_view body);

}  // namespace tandem::api
