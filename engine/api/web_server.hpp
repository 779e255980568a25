// A read-only HTTP/1.1 server on a TCP port, for browsers and for Prometheus; what it answers is
// the handler's business. Everybody who reaches the port may ask, so it can change nothing.
//
// A browser asks in the name of whatever page it shows. Other origins' pages cannot read answers,
// for there are no CORS headers, and cannot make this server look like their own origin by a name
// that resolves to its address (DNS rebinding), for only names that are known are answered.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/asio.hpp"
#include "base/error.hpp"
#include "engine/api/server.hpp"

namespace tandem::api {

/// Whether a `Host` header is this server's: any address in numbers, "localhost", or one of
/// `names`; with or without a port.
bool is_own_host(std::string_view header, const std::vector<std::string>& names);

class WebServer {
 public:
  struct Page {
    std::string content_type;
    std::string body;
  };
  /// The request's method is GET, and it has no body. Errors become {"error":{"code","message"}}
  /// with the status that fits.
  using Handler = std::function<Task<Result<Page>>(Request)>;

  /// Listens on `address`. `names`: what it is called, apart from its addresses.
  static Result<std::shared_ptr<WebServer>> listen(const asio::any_io_executor& executor,
                                                   const asio::ip::tcp::endpoint& address,
                                                   std::vector<std::string> names, Handler handler);
  ~WebServer();

  /// Accepts until close().
  Task<void> serve();
  void close();
  /// Where it listens; the port that was found if 0 was asked for.
  [[nodiscard]] asio::ip::tcp::endpoint address() const;

 private:
  class Impl;
  explicit WebServer(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace tandem::api
