// A small HTTP/1.1 server for JSON on a unix socket; what it answers is the handler's business.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "base/asio.hpp"
#include "base/error.hpp"

namespace tandem::api {

struct Request {
  std::string method;  ///< "GET", "POST"
  std::string path;    ///< without the query
  std::string query;   ///< "after=3&wait_ms=1000", empty if none
  nlohmann::json body = nlohmann::json::object();
};

/// From the method and target of a request, without a body.
Request request_line(std::string_view method, std::string_view target);

/// The value of `key` in a query, or `otherwise`. Errc::invalid_input if it is not a whole number
/// up to `max`.
Result<std::uint64_t> query_number(const Request& request, std::string_view key,
                                   std::uint64_t otherwise, std::uint64_t max);

/// The HTTP status that stands for an error.
unsigned http_status(Errc code) noexcept;

/// JSON as it goes out, and what an error looks like in it.
std::string to_text(const nlohmann::json& body);
nlohmann::json error_body(const Error& error);

class Server {
 public:
  /// Errors become {"error":{"code","message"}} with the status that fits.
  using Handler = std::function<Task<Result<nlohmann::json>>(Request)>;

  /// Listens on `socket` (mode 0600, a left-over file is replaced, a live server is not:
  /// Errc::conflict).
  static Result<std::shared_ptr<Server>> listen(const asio::any_io_executor& executor,
                                                std::filesystem::path socket, Handler handler);
  ~Server();

  /// Accepts until close().
  Task<void> serve();
  void close();

 private:
  class Impl;
  explicit Server(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace tandem::api
