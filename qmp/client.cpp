#include "qmp/client.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <cassert>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <deque>
#include <exception>
#include <optional>
#include <span>
#include <unordered_map>
#include <utility>
#include <variant>

#include "base/unique_fd.hpp"
#include "qmp/line_reader.hpp"
#include "qmp/message.hpp"

namespace tandem::qmp {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

/// QEMU stops reading a monitor, out-of-band commands included, while 8 in-band commands wait in
/// its queue (QMP_REQ_QUEUE_LEN_MAX in monitor/qmp.c). One less on the way at a time keeps the door
/// open.
constexpr std::size_t in_band_in_flight_max = 7;

/// A connected socket, non-blocking and closed on exec.
Result<UniqueFd> connect_socket(const std::string& path) {
  sockaddr_un address{};
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return Error{Errc::invalid_input, "'" + path +
                                          "' cannot be a unix socket: its path must have 1 to " +
                                          std::to_string(sizeof address.sun_path - 1) + " bytes"};
  }
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return system_error("cannot make a socket", errno);
  // The connect of a non-blocking unix socket never goes on in the background: it succeeds or it
  // fails.
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    switch (errno) {
      case ENOENT:
      case ECONNREFUSED:
        return Error{Errc::unavailable, "nobody listens: is QEMU running?"};
      case EAGAIN:
        return Error{Errc::unavailable,
                     "the listener's queue is full: are others connected to this monitor?"};
      default:
        return system_error("cannot connect", errno);
    }
  }
  return fd;
}

}  // namespace

std::string to_string(const Version& version) {
  return std::to_string(version.major) + "." + std::to_string(version.minor) + "." +
         std::to_string(version.micro);
}

// The connection itself. The reader coroutine owns a share of it, never of the Client: so the
// Client's end closes the socket, which ends the reader, which lets go of this.
class Client::Impl : public std::enable_shared_from_this<Client::Impl> {
 public:
  Impl(asio::any_io_executor executor, std::string path, ClientOptions options)
      : executor_(executor),
        path_(std::move(path)),
        options_(options),
        socket_(executor),
        lines_(options.message_bytes_max) {
    options_.pending_max = std::max<std::size_t>(options_.pending_max, 1);
  }

  /// Takes the connected socket and starts to read.
  Result<void> start(UniqueFd fd);

  /// Waits for the greeting and leaves the negotiation mode.
  static Task<Result<void>> negotiate(std::shared_ptr<Impl> self, Clock::time_point deadline);

  static Task<Result<json>> execute(std::shared_ptr<Impl> self, std::string command, json arguments,
                                    ExecuteOptions options);

  void on_event(EventHandler handler);
  void on_close(CloseHandler handler);
  void close() noexcept { end({Errc::closed, "the client was closed"}, Ended::by_us); }

  [[nodiscard]] bool is_open() const noexcept { return ended_ == Ended::no; }
  [[nodiscard]] const Version& version() const noexcept { return greeting_.version; }
  [[nodiscard]] bool out_of_band() const noexcept { return out_of_band_; }

 private:
  enum class Ended { no, by_us, by_failure };

  /// A coroutine that waits for an outcome; the timer is both its deadline and what wakes it.
  struct Waiter {
    Waiter(const asio::any_io_executor& executor, Clock::time_point deadline)
        : timer(executor, deadline) {}
    std::optional<Result<json>> outcome;
    asio::steady_timer timer;
  };

  /// A command of which no byte has been written.
  struct Queued {
    std::uint64_t id;
    std::string bytes;
    UniqueFd fd;  ///< a duplicate: the caller may close its own once execute() has returned
    bool out_of_band;
    std::shared_ptr<Waiter> waiter;
  };

  /// A command that QEMU has, at least in part, and has not answered.
  struct InFlight {
    bool out_of_band;
    bool carries_fd;
    std::shared_ptr<Waiter> waiter;  ///< null once its caller has given up
  };

  /// What is being written.
  struct Writing {
    std::string bytes;
    std::size_t written = 0;
    UniqueFd fd;
  };

  /// Gives a command up when its coroutine ends in any way, that of being destroyed included.
  class Guard {
   public:
    Guard(std::shared_ptr<Impl> impl, std::uint64_t id) : impl_(std::move(impl)), id_(id) {}
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;
    ~Guard() { impl_->give_up(id_); }

   private:
    std::shared_ptr<Impl> impl_;
    std::uint64_t id_;
  };

  static Task<Result<json>> wait(std::shared_ptr<Waiter> waiter);
  static Task<void> read(std::shared_ptr<Impl> self);

  [[nodiscard]] Error error(Errc code, const std::string& what) const {
    return {code, "QMP at " + path_ + ": " + what};
  }
  [[nodiscard]] Error closed_error() const {
    return error(Errc::closed, "the connection has ended: " + why_.message);
  }

  Result<void> take(std::string_view line);
  Result<void> take(Greeting greeting);
  Result<void> take(const Event& event);
  Result<void> take(Reply reply);
  static void complete(const std::shared_ptr<Waiter>& waiter, Result<json> outcome);

  [[nodiscard]] std::optional<Queued> next_to_write();
  void write_some();
  void give_up(std::uint64_t id);
  void end(Error why, Ended how) noexcept;

  asio::any_io_executor executor_;
  std::string path_;
  ClientOptions options_;
  asio::local::stream_protocol::socket socket_;
  LineReader lines_;

  Ended ended_ = Ended::no;
  Error why_{Errc::closed, ""};  ///< once ended
  Greeting greeting_;
  std::shared_ptr<Waiter> greeting_waiter_;  ///< null once the greeting has come
  bool out_of_band_ = false;                 ///< negotiated

  std::uint64_t next_id_ = 1;
  std::deque<Queued> in_band_queue_, out_of_band_queue_;
  std::unordered_map<std::uint64_t, InFlight> in_flight_;
  std::size_t in_band_in_flight_ = 0;
  bool fd_in_flight_ = false;
  std::optional<Writing> writing_;
  bool waiting_to_write_ = false;
  bool write_failed_ = false;

  // Shared, because a handler may replace itself, or close, while it runs.
  std::shared_ptr<const EventHandler> on_event_;
  std::shared_ptr<const CloseHandler> on_close_;
};

Result<void> Client::Impl::start(UniqueFd fd) {
  boost::system::error_code ec;
  socket_.assign(asio::local::stream_protocol(), fd.get(), ec);
  if (ec) return error(Errc::io, "cannot watch the socket: " + ec.message());
  fd.release();
  asio::co_spawn(executor_, read(shared_from_this()),
                 [self = shared_from_this()](std::exception_ptr thrown) {
                   if (!thrown) return;
                   // Only a handler can have thrown. Nobody reads from here on.
                   self->close();
                   std::rethrow_exception(thrown);
                 });
  return {};
}

Task<Result<json>> Client::Impl::wait(std::shared_ptr<Waiter> waiter) {
  // The outcome may be there before anybody waits, and cancelling the timer then wakes nobody.
  if (!waiter->outcome) co_await waiter->timer.async_wait(use_tuple);
  if (waiter->outcome) co_return std::move(*waiter->outcome);
  if (Clock::now() < waiter->timer.expiry()) {
    co_return Error{Errc::timed_out, "given up by its caller"};
  }
  co_return Error{Errc::timed_out, "no answer in time"};
}

Task<Result<void>> Client::Impl::negotiate(std::shared_ptr<Impl> self, Clock::time_point deadline) {
  const auto waiter = std::make_shared<Waiter>(self->executor_, deadline);
  self->greeting_waiter_ = waiter;
  auto waiting = wait(waiter);
  const auto greeted = co_await std::move(waiting);
  if (!self->is_open()) co_return self->error(self->why_.code, self->why_.message);
  if (!greeted) {
    co_return self->error(greeted.error().code,
                          "connected, but no greeting came: is another client connected?");
  }

  auto arguments = json::object();
  if (self->greeting_.offers_out_of_band) arguments["enable"] = json::array({"oob"});
  ExecuteOptions options;
  options.timeout = std::max(std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()),
                             std::chrono::milliseconds(1));
  auto call = execute(self, "qmp_capabilities", std::move(arguments), options);
  const auto negotiated = co_await std::move(call);
  if (!self->is_open()) co_return self->error(self->why_.code, self->why_.message);
  if (!negotiated) co_return negotiated.error();
  self->out_of_band_ = self->greeting_.offers_out_of_band;
  co_return Result<void>();
}

Task<Result<json>> Client::Impl::execute(std::shared_ptr<Impl> self, std::string command,
                                         json arguments, ExecuteOptions options) {
  if (!self->is_open()) co_return with_context(command, self->closed_error());
  if (options.out_of_band && !self->out_of_band_) {
    co_return self->error(Errc::unavailable,
                          command + " cannot run out of band: QEMU does not offer it here");
  }
  if (!arguments.is_object()) {
    co_return self->error(Errc::invalid_input, command + "'s arguments are not an object");
  }
  const std::size_t unanswered =
      self->in_flight_.size() + self->in_band_queue_.size() + self->out_of_band_queue_.size();
  if (unanswered >= self->options_.pending_max) {
    co_return self->error(Errc::limit,
                          command + ": " + std::to_string(unanswered) +
                              " commands wait for an answer already, no more are taken");
  }

  const std::uint64_t id = self->next_id_++;
  Queued queued{id, {}, UniqueFd(), options.out_of_band, nullptr};
  json request = json::object();
  request[options.out_of_band ? "exec-oob" : "execute"] = command;
  if (!arguments.empty()) request["arguments"] = std::move(arguments);
  request["id"] = id;
  try {
    queued.bytes = request.dump();
  } catch (const json::exception& thrown) {
    co_return self->error(Errc::invalid_input,
                          command + "'s arguments cannot be sent: " + thrown.what());
  }
  queued.bytes += '\n';
  if (options.fd >= 0) {
    queued.fd.reset(::fcntl(options.fd, F_DUPFD_CLOEXEC, 0));
    if (!queued.fd) {
      const std::string what = "QMP at " + self->path_ + ": " + command +
                               ": cannot duplicate descriptor " + std::to_string(options.fd);
      co_return system_error(what, errno);
    }
  }
  const auto timeout =
      options.timeout.count() > 0 ? options.timeout : self->options_.command_timeout;
  const auto waiter = std::make_shared<Waiter>(self->executor_, Clock::now() + timeout);
  queued.waiter = waiter;

  const Guard guard(self, id);
  auto& queue = options.out_of_band ? self->out_of_band_queue_ : self->in_band_queue_;
  queue.push_back(std::move(queued));
  self->write_some();
  auto waiting = wait(waiter);
  auto outcome = co_await std::move(waiting);
  if (!outcome) {
    if (outcome.error().code == Errc::closed) co_return with_context(command, outcome.error());
    if (outcome.error().code == Errc::timed_out) {
      // What stood in the queue behind this command may be able to go now.
      self->give_up(id);
      self->write_some();
      co_return self->error(Errc::timed_out, command + ": " + outcome.error().message + " (" +
                                                 std::to_string(timeout.count()) + " ms)");
    }
    co_return self->error(outcome.error().code, command + ": " + outcome.error().message);
  }
  co_return outcome;
}

void Client::Impl::complete(const std::shared_ptr<Waiter>& waiter, Result<json> outcome) {
  if (!waiter) return;
  waiter->outcome.emplace(std::move(outcome));
  waiter->timer.cancel();
}

void Client::Impl::give_up(std::uint64_t id) {
  if (const auto found = in_flight_.find(id); found != in_flight_.end()) {
    // QEMU has it: the id is remembered, and its place taken, until the late answer comes.
    found->second.waiter.reset();
    return;
  }
  const auto is_it = [id](const Queued& queued) { return queued.id == id; };
  std::erase_if(in_band_queue_, is_it);
  std::erase_if(out_of_band_queue_, is_it);
}

std::optional<Client::Impl::Queued> Client::Impl::next_to_write() {
  // QEMU's chardev keeps only the descriptors that came last: a second one sent before the first
  // has been taken would replace it. So one command with a descriptor at a time.
  const auto may_go = [this](const Queued& queued) { return !queued.fd || !fd_in_flight_; };
  std::deque<Queued>* from = nullptr;
  if (!out_of_band_queue_.empty() && may_go(out_of_band_queue_.front())) {
    from = &out_of_band_queue_;
  } else if (!in_band_queue_.empty() && may_go(in_band_queue_.front()) &&
             in_band_in_flight_ < in_band_in_flight_max) {
    from = &in_band_queue_;
  }
  if (from == nullptr) return std::nullopt;
  Queued queued = std::move(from->front());
  from->pop_front();
  return queued;
}

void Client::Impl::write_some() {
  while (is_open() && !waiting_to_write_ && !write_failed_) {
    if (!writing_) {
      auto next = next_to_write();
      if (!next) return;
      const bool carries_fd = static_cast<bool>(next->fd);
      in_flight_.emplace(next->id,
                         InFlight{next->out_of_band, carries_fd, std::move(next->waiter)});
      if (!next->out_of_band) ++in_band_in_flight_;
      if (carries_fd) fd_in_flight_ = true;
      writing_ = Writing{std::move(next->bytes), 0, std::move(next->fd)};
    }

    iovec bytes{writing_->bytes.data() + writing_->written,
                writing_->bytes.size() - writing_->written};
    msghdr message{};
    message.msg_iov = &bytes;
    message.msg_iovlen = 1;
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    if (writing_->fd) {
      message.msg_control = control.data();
      message.msg_controllen = control.size();
      cmsghdr* const header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(sizeof(int));
      const int fd = writing_->fd.get();
      std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
    }
    const ssize_t sent = ::sendmsg(socket_.native_handle(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) {
      writing_->fd.reset();
      writing_->written += static_cast<std::size_t>(sent);
      if (writing_->written == writing_->bytes.size()) writing_.reset();
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      waiting_to_write_ = true;
      socket_.async_wait(asio::socket_base::wait_write,
                         [self = shared_from_this()](boost::system::error_code) {
                           self->waiting_to_write_ = false;
                           self->write_some();
                         });
    } else if (errno != EINTR) {
      // What QEMU said before it went is still to be read. The shutdown lets the reader come to the
      // end of that, and the reader then ends the connection.
      write_failed_ = true;
      ::shutdown(socket_.native_handle(), SHUT_RDWR);
    }
  }
}

Task<void> Client::Impl::read(std::shared_ptr<Impl> self) {
  while (self->is_open()) {
    const std::span<char> space = self->lines_.prepare();
    const auto buffer = asio::buffer(space.data(), space.size());
    const auto [ec, bytes] = co_await self->socket_.async_read_some(buffer, use_tuple);
    if (!self->is_open()) co_return;
    if (ec == asio::error::eof || ec == asio::error::connection_reset) {
      self->end({Errc::closed, self->lines_.in_line() ? "QEMU closed it in the middle of a message"
                                                      : "QEMU closed it"},
                Ended::by_failure);
      co_return;
    }
    if (ec) {
      self->end({Errc::io, "cannot read: " + ec.message()}, Ended::by_failure);
      co_return;
    }
    self->lines_.commit(bytes);
    while (self->is_open()) {
      auto line = self->lines_.next();
      if (!line) {
        self->end(line.error(), Ended::by_failure);
        co_return;
      }
      if (!*line) break;
      const auto taken = self->take(**line);
      if (!taken) {
        self->end(taken.error(), Ended::by_failure);
        co_return;
      }
    }
    self->write_some();
  }
}

Result<void> Client::Impl::take(std::string_view line) {
  auto message = parse_message(line);
  if (!message) return message.error();
  if (auto* const greeting = std::get_if<Greeting>(&*message)) return take(std::move(*greeting));
  if (!greeting_waiter_) {
    if (const auto* const event = std::get_if<Event>(&*message)) return take(*event);
    return take(std::move(std::get<Reply>(*message)));
  }
  return Error{Errc::protocol, "the first message is no QMP greeting"};
}

Result<void> Client::Impl::take(Greeting greeting) {
  if (!greeting_waiter_) return Error{Errc::protocol, "a second greeting"};
  greeting_ = std::move(greeting);
  complete(std::exchange(greeting_waiter_, nullptr),
           Result<json>(boost::system::in_place_value, json::object()));
  return {};
}

Result<void> Client::Impl::take(const Event& event) {
  if (const auto handler = on_event_) (*handler)(event);
  return {};
}

Result<void> Client::Impl::take(Reply reply) {
  const auto found = in_flight_.find(reply.id);
  if (found == in_flight_.end()) {
    return Error{Errc::protocol, "a reply with the id " + std::to_string(reply.id) +
                                     ", which no command without an answer has"};
  }
  const InFlight answered = std::move(found->second);
  in_flight_.erase(found);
  if (!answered.out_of_band) --in_band_in_flight_;
  if (answered.carries_fd) fd_in_flight_ = false;
  complete(answered.waiter, std::move(reply.outcome));
  return {};
}

void Client::Impl::end(Error why, Ended how) noexcept {
  if (!is_open()) return;
  const auto self = shared_from_this();
  ended_ = how;
  why_ = std::move(why);
  boost::system::error_code ignored;
  socket_.close(ignored);

  const Error answer = closed_error();
  complete(greeting_waiter_, answer);
  for (auto& [id, command] : in_flight_) complete(command.waiter, answer);
  for (const Queued& queued : in_band_queue_) complete(queued.waiter, answer);
  for (const Queued& queued : out_of_band_queue_) complete(queued.waiter, answer);
  in_flight_.clear();
  in_band_queue_.clear();
  out_of_band_queue_.clear();
  writing_.reset();

  // The handlers go now, and whatever they hold, the Client perhaps, with them.
  const auto dropped = std::exchange(on_event_, nullptr);
  const auto handler = std::exchange(on_close_, nullptr);
  if (how == Ended::by_failure && handler) (*handler)(error(why_.code, why_.message));
}

void Client::Impl::on_event(EventHandler handler) {
  if (!is_open()) return;
  // The one before may own what calls this: it goes when everything is in place.
  const auto before = std::exchange(
      on_event_, handler ? std::make_shared<const EventHandler>(std::move(handler)) : nullptr);
}

void Client::Impl::on_close(CloseHandler handler) {
  if (is_open()) {
    const auto before = std::exchange(
        on_close_, handler ? std::make_shared<const CloseHandler>(std::move(handler)) : nullptr);
  } else if (ended_ == Ended::by_failure && handler) {
    handler(error(why_.code, why_.message));
  }
}

Task<Result<std::shared_ptr<Client>>> Client::connect(std::string path, ClientOptions options) {
  const auto deadline = Clock::now() + options.connect_timeout;
  const auto executor = co_await asio::this_coro::executor;
  auto socket = connect_socket(path);
  if (!socket) co_return with_context("QMP at " + path, socket.error());
  const auto impl = std::make_shared<Impl>(executor, path, options);
  // From here on every way out but the last one closes the connection.
  const std::shared_ptr<Client> client(new Client(impl));
  const auto started = impl->start(std::move(*socket));
  if (!started) co_return started.error();
  auto negotiation = Impl::negotiate(impl, deadline);
  const auto negotiated = co_await std::move(negotiation);
  if (!negotiated) co_return negotiated.error();
  co_return client;
}

Client::Client(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

Client::~Client() {
  impl_->close();
}

// The coroutine holds the connection only, not the Client: whoever drops the last Client ends its
// commands.
Task<Result<json>> Client::execute(std::string command, json arguments, ExecuteOptions options) {
  return Impl::execute(impl_, std::move(command), std::move(arguments), options);
}

// Each of these may lead to the end of the Client, through what a handler owned.
void Client::on_event(EventHandler handler) {
  const auto impl = impl_;
  impl->on_event(std::move(handler));
}

void Client::on_close(CloseHandler handler) {
  const auto impl = impl_;
  impl->on_close(std::move(handler));
}

void Client::close() noexcept {
  const auto impl = impl_;
  impl->close();
}

bool Client::is_open() const noexcept {
  return impl_->is_open();
}

const Version& Client::version() const noexcept {
  return impl_->version();
}

bool Client::supports_out_of_band() const noexcept {
  return impl_->out_of_band();
}

}  // namespace tandem::qmp
