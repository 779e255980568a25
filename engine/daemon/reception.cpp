#include "engine/daemon/reception.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <nlohmann/json.hpp>

#include "engine/daemon/config.hpp"

namespace tandem::daemon {
namespace {

using namespace std::chrono_literals;
using namespace asio::experimental::awaitable_operators;
using asio::ip::tcp;
using std::chrono::steady_clock;

constexpr auto hello_limit = 3s;
constexpr auto answer_limit = 3s;
constexpr auto hang_up_limit = 500ms;
constexpr auto lanes_limit = 5s;
constexpr std::size_t greeting_max = 64;
constexpr std::size_t incomplete_max = 64;
constexpr std::size_t session_size = 32;

constexpr std::array lane_kinds{wire::LaneKind::bulk, wire::LaneKind::packet,
                                wire::LaneKind::control};

}  // namespace

Result<void> Reception::listen(const transport::Endpoint& endpoint) {
  boost::system::error_code ec;
  const auto address = asio::ip::make_address(endpoint.host, ec);
  if (ec) {
    return Error{Errc::invalid_input,
                 "replication.listen: \"" + endpoint.host + "\" is no address"};
  }
  const tcp::endpoint here(address, endpoint.port);
  acceptor_.open(here.protocol(), ec);
  if (!ec) acceptor_.set_option(tcp::acceptor::reuse_address(true), ec);
  if (!ec) acceptor_.bind(here, ec);
  if (!ec) acceptor_.listen(64, ec);
  if (ec) {
    return system_error("cannot listen on " + endpoint.host + ":" + std::to_string(endpoint.port),
                        ec.value());
  }
  return {};
}

Task<void> Reception::serve() {
  for (;;) {
    auto [ec, socket] = co_await acceptor_.async_accept(use_tuple);
    if (!acceptor_.is_open()) co_return;
    if (ec || greeting_ >= greeting_max) continue;
    asio::co_spawn(acceptor_.get_executor(), greet(std::move(socket)),
                   [](const std::exception_ptr& exception) {
                     if (exception) std::rethrow_exception(exception);
                   });
  }
}

void Reception::sweep() {
  std::erase_if(incomplete_,
                [](const auto& entry) { return entry.second.deadline < steady_clock::now(); });
}

void Reception::close() {
  boost::system::error_code ignored;
  acceptor_.close(ignored);
  incomplete_.clear();
}

Task<Result<Reception::Hello>> Reception::hear(tcp::socket& socket) {
  std::array<std::byte, wire::hello_header_size> bytes{};
  const auto header_buffer = asio::buffer(bytes);
  const auto [ec, n] = co_await asio::async_read(socket, header_buffer, use_tuple);
  if (ec) co_return Error{Errc::closed, "it said nothing"};
  const auto header = wire::decode_hello(bytes);
  if (!header) co_return header.error();
  std::string text(header->text_length, '\0');
  const auto text_buffer = asio::buffer(text);
  const auto [text_ec, text_n] = co_await asio::async_read(socket, text_buffer, use_tuple);
  if (text_ec) co_return Error{Errc::closed, "its hello is not whole"};

  const auto json = nlohmann::json::parse(text, nullptr, false);
  const auto field = [&](const char* key) {
    return json.is_object() && json.contains(key) && json[key].is_string()
               ? json[key].get<std::string>()
               : std::string();
  };
  Hello hello{header->kind, false, field("vm"), field("host"), field("session")};
  hello.only_asks = hello.kind == wire::LaneKind::control && json.is_object() &&
                    json.contains("probe") && json["probe"] == true;
  const bool complete =
      is_valid_name(hello.vm) && is_valid_name(hello.peer) && hello.session.size() == session_size;
  if (!hello.only_asks && !complete) {
    co_return Error{Errc::protocol, "a hello without vm, host and session"};
  }
  co_return hello;
}

Task<Result<void>> Reception::judge(Hello hello) {
  if (hello.only_asks) co_return Result<void>();
  const auto found = incomplete_.find(hello.session);
  if (found == incomplete_.end()) {
    if (incomplete_.size() >= incomplete_max) {
      co_return Error{Errc::limit, "too many pairs are being set up at once"};
    }
    co_return co_await handlers_.admit(hello.vm, hello.peer);
  }
  const auto& arrival = found->second.arrival;
  if (arrival.vm != hello.vm || arrival.peer != hello.peer) {
    co_return Error{Errc::protocol, "the lanes of one session are for different VMs or hosts"};
  }
  if (arrival.sockets.contains(hello.kind)) {
    co_return Error{Errc::protocol, "a second " + std::string(to_string(hello.kind)) + " lane"};
  }
  co_return Result<void>();
}

Task<void> Reception::greet(tcp::socket socket) {
  ++greeting_;
  asio::steady_timer deadline(acceptor_.get_executor(), hello_limit);
  auto heard = co_await (hear(socket) || deadline.async_wait(use_tuple));
  --greeting_;
  if (heard.index() == 1) co_return;
  const auto hello = std::get<0>(std::move(heard));
  if (!hello && hello.error().code == Errc::closed) co_return;  // nobody to answer to
  Result<void> result;
  if (hello) {
    result = co_await judge(*hello);
  } else {
    result = hello.error();
  }
  if (!result) handlers_.refused(hello ? hello->vm : "", result.error());

  const auto answer =
      result ? wire::encode_hello_answer(wire::HelloStatus::accepted, handlers_.introduction())
             : wire::encode_hello_answer(wire::HelloStatus::refused, result.error().message);
  const auto answer_buffer = asio::buffer(answer);
  deadline.expires_after(answer_limit);
  const auto written = co_await (asio::async_write(socket, answer_buffer, use_tuple) ||
                                 deadline.async_wait(use_tuple));
  if (written.index() == 1 || std::get<0>(std::get<0>(written))) co_return;
  if (!result || hello->only_asks) {
    co_await hang_up(socket);
    co_return;
  }

  auto& place = incomplete_[hello->session];
  place.arrival.vm = hello->vm;
  place.arrival.peer = hello->peer;
  place.arrival.sockets.emplace(hello->kind, std::move(socket));
  place.deadline = steady_clock::now() + lanes_limit;
  if (place.arrival.sockets.size() < lane_kinds.size()) co_return;
  auto complete = std::move(incomplete_.extract(hello->session).mapped().arrival);
  handlers_.arrived(std::move(complete));
}

Task<void> Reception::hang_up(tcp::socket& socket) {
  // Closing with bytes unread would reset the connection, and the answer with it.
  boost::system::error_code ignored;
  socket.shutdown(tcp::socket::shutdown_send, ignored);
  asio::steady_timer deadline(acceptor_.get_executor(), hang_up_limit);
  std::array<char, 4096> unread;
  const auto buffer = asio::buffer(unread);
  for (;;) {
    const auto read =
        co_await (socket.async_read_some(buffer, use_tuple) || deadline.async_wait(use_tuple));
    if (read.index() == 1 || std::get<0>(std::get<0>(read))) co_return;
  }
}

}  // namespace tandem::daemon
