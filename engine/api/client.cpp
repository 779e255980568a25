#include "engine/api/client.hpp"

#include <sys/un.h>

#include <array>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>

#include "base/asio.hpp"

namespace tandem::api {
namespace {

namespace beast = boost::beast;
namespace http = boost::beast::http;
using Stream = beast::basic_stream<asio::local::stream_protocol>;

constexpr std::uint64_t kAnswerLimit = 16 * 1024 * 1024;

struct Exchange {
  std::filesystem::path socket;
  http::request<http::string_body> request;
  std::chrono::milliseconds timeout;
};

Error transport_error(const Exchange& exchange, std::string_view step,
                      const boost::system::error_code& ec) {
  const std::string where = exchange.socket.string();
  if (ec == beast::error::timeout)
    return {Errc::timed_out, "tandemd at " + where + " did not answer " +
                                 std::string(exchange.request.target()) + " within " +
                                 std::to_string(exchange.timeout.count()) + " ms"};
  if (ec == boost::system::errc::no_such_file_or_directory ||
      ec == boost::system::errc::connection_refused)
    return {Errc::unavailable, "no tandemd listens at " + where + ": is it running?"};
  if (ec == boost::system::errc::permission_denied)
    return {Errc::permission, "this user may not talk to tandemd at " + where};
  if (ec == http::error::body_limit || ec == http::error::header_limit)
    return {Errc::limit, "the answer of tandemd at " + where + " is longer than is accepted"};
  if (ec == http::error::end_of_stream || ec == http::error::partial_message ||
      ec == boost::system::errc::connection_reset || ec == boost::system::errc::broken_pipe)
    return {Errc::closed,
            "tandemd at " + where + " closed the connection while " + std::string(step)};
  if (ec.category() == http::make_error_code(http::error::bad_version).category())
    return {Errc::protocol,
            "what answers at " + where + " does not speak HTTP (" + ec.message() + ")"};
  return {Errc::io, std::string(step) + " at " + where + ": " + ec.message()};
}

Task<Result<nlohmann::json>> perform(Exchange& exchange) {
  Stream stream(co_await asio::this_coro::executor);
  stream.expires_after(exchange.timeout);
  const asio::local::stream_protocol::endpoint endpoint(exchange.socket.string());
  auto [connect_problem] = co_await stream.async_connect(endpoint, use_tuple);
  if (connect_problem) co_return transport_error(exchange, "connecting", connect_problem);

  auto [write_problem, written] = co_await http::async_write(stream, exchange.request, use_tuple);
  if (write_problem) co_return transport_error(exchange, "it was asked", write_problem);

  beast::flat_buffer buffer;
  http::response_parser<http::string_body> parser;
  parser.body_limit(kAnswerLimit);
  auto [read_problem, got] = co_await http::async_read(stream, buffer, parser, use_tuple);
  if (read_problem) co_return transport_error(exchange, "it answered", read_problem);

  const auto& answer = parser.get();
  const unsigned status = answer.result_int();
  if (status < 200 || status >= 300) co_return error_from_answer(status, answer.body());
  auto json = answer.body().empty() ? nlohmann::json::object()
                                    : nlohmann::json::parse(answer.body(), nullptr, false);
  if (json.is_discarded()) {
    Error error{Errc::protocol, "the answer of tandemd at " + exchange.socket.string() + " to " +
                                    std::string(exchange.request.target()) + " is not JSON"};
    co_return error;
  }
  // A JSON value converts to anything, so which alternative is meant must be said.
  Result<nlohmann::json> success(boost::system::in_place_value, std::move(json));
  co_return success;
}

Result<nlohmann::json> call(Exchange exchange) {
  // The endpoint's constructor throws for a path that does not fit.
  if (exchange.socket.string().size() >= sizeof(sockaddr_un::sun_path))
    return Error{Errc::invalid_input, "the path of the API socket is longer than 107 bytes: " +
                                          exchange.socket.string()};
  exchange.request.set(http::field::host, "tandemd");
  exchange.request.keep_alive(false);
  exchange.request.prepare_payload();
  Result<nlohmann::json> result = Error{Errc::closed, "no answer"};
  asio::io_context context(1);
  asio::co_spawn(context, perform(exchange),
                 [&result](std::exception_ptr failure, Result<nlohmann::json> answer) {
                   if (failure) std::rethrow_exception(failure);
                   result = std::move(answer);
                 });
  context.run();
  return result;
}

}  // namespace

std::optional<Errc> errc_from_string(std::string_view name) noexcept {
  constexpr std::array all{Errc::invalid_input, Errc::not_found,  Errc::conflict,  Errc::refused,
                           Errc::unavailable,   Errc::permission, Errc::timed_out, Errc::closed,
                           Errc::protocol,      Errc::limit,      Errc::io};
  for (const Errc code : all)
    if (to_string(code) == name) return code;
  return std::nullopt;
}

Error error_from_answer(unsigned status, std::string_view body) {
  const auto json = nlohmann::json::parse(body, nullptr, false);
  if (json.is_object() && json.contains("error") && json["error"].is_object()) {
    const auto& error = json["error"];
    const auto code = error.find("code");
    const auto message = error.find("message");
    if (code != error.end() && code->is_string() && message != error.end() &&
        message->is_string()) {
      if (const auto known = errc_from_string(code->get<std::string>()))
        return {*known, message->get<std::string>()};
      return {Errc::protocol, "tandemd answered with an unknown error \"" +
                                  code->get<std::string>() + "\": " + message->get<std::string>()};
    }
  }
  return {Errc::protocol, "tandemd answered HTTP status " + std::to_string(status) +
                              " without saying what is wrong"};
}

Result<nlohmann::json> ApiClient::get(const std::string& target,
                                      std::chrono::milliseconds timeout) const {
  return call({socket_, {http::verb::get, target, 11}, timeout});
}

Result<nlohmann::json> ApiClient::post(const std::string& target, const nlohmann::json& body,
                                       std::chrono::milliseconds timeout) const {
  Exchange exchange{socket_, {http::verb::post, target, 11}, timeout};
  exchange.request.set(http::field::content_type, "application/json");
  exchange.request.body() = body.dump();
  return call(std::move(exchange));
}

}  // namespace tandem::api
