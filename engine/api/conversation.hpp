// One HTTP/1.1 connection, whatever it runs over: requests are read and answered in turn until
// either side ends it.
#pragma once

#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <chrono>

#include "base/asio.hpp"

namespace tandem::api {

namespace http = boost::beast::http;
using HttpRequest = http::request<http::string_body>;
using HttpResponse = http::response<http::string_body>;

struct ConversationLimits {
  std::size_t body_bytes_max = 256u << 10;
  std::chrono::milliseconds request{10'000};  ///< for a request to come in, and as long to answer
                                              ///< a client that reads slowly
};

/// What a request that cannot be read is answered with; 0: nothing, since nobody is there.
inline unsigned status_of_bad_request(const boost::system::error_code& ec) {
  const bool of_http = ec.category() == http::make_error_code(http::error::bad_method).category();
  if (!of_http || ec == http::error::end_of_stream || ec == http::error::partial_message) return 0;
  if (ec == http::error::body_limit) return 413;
  if (ec == http::error::header_limit || ec == http::error::buffer_overflow) return 431;
  return 400;
}

/// `answer`: Task<HttpResponse>(const HttpRequest&); `refuse`: HttpResponse(unsigned status), for
/// what cannot be read. Both say everything but `Connection`, and HEAD's missing body.
template <class Stream, class Answer, class Refuse>
Task<void> converse(Stream connection, ConversationLimits limits, Answer& answer, Refuse& refuse) {
  using namespace asio::experimental::awaitable_operators;
  boost::beast::flat_buffer buffer(limits.body_bytes_max + 65536);
  asio::steady_timer deadline(connection.get_executor());
  for (bool keep_alive = true; keep_alive;) {
    http::request_parser<http::string_body> parser;
    parser.body_limit(limits.body_bytes_max);
    deadline.expires_after(limits.request);
    const auto read = co_await (http::async_read(connection, buffer, parser, use_tuple) ||
                                deadline.async_wait(use_tuple));
    if (read.index() == 1) break;
    const auto error = std::get<0>(std::get<0>(read));
    const auto bad = error ? status_of_bad_request(error) : 0u;
    if (error && bad == 0) break;
    HttpResponse response;
    bool head = false;
    if (error) {
      keep_alive = false;
      response = refuse(bad);
    } else {
      const auto& request = parser.get();
      keep_alive = request.keep_alive();
      head = request.method() == http::verb::head;
      response = co_await answer(request);
      response.version(request.version());
    }
    response.keep_alive(keep_alive);
    response.prepare_payload();
    http::response_serializer<http::string_body> serializer(response);
    deadline.expires_after(limits.request);
    bool written = false;
    if (head) {
      const auto done = co_await (http::async_write_header(connection, serializer, use_tuple) ||
                                  deadline.async_wait(use_tuple));
      written = done.index() == 0 && !std::get<0>(std::get<0>(done));
    } else {
      const auto done = co_await (http::async_write(connection, serializer, use_tuple) ||
                                  deadline.async_wait(use_tuple));
      written = done.index() == 0 && !std::get<0>(std::get<0>(done));
    }
    if (!written) break;
  }
}

}  // namespace tandem::api
