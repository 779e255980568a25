#include "experiments/demo/redis_client.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace tandem::demo {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// A client that was held up writes at most this much of what it has missed.
constexpr milliseconds kCatchUp{50};
constexpr milliseconds kAttempt{1000};
constexpr milliseconds kBetweenAttempts{100};

// What ended a wait.
enum class Waited { ready, woken, timed_out };

// Waits for the socket, for a wake-up by the owner, or until the deadline.
Waited wait_for(int socket, short events, int wake, Time deadline) {
  std::array<pollfd, 2> waiting{pollfd{wake, POLLIN, 0}, pollfd{socket, events, 0}};
  const auto left = std::max(Clock::duration::zero(), Clock::duration(deadline - Clock::now()));
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
  const auto rest = std::chrono::duration_cast<std::chrono::nanoseconds>(left - seconds);
  const timespec timeout{seconds.count(), rest.count()};
  if (::ppoll(waiting.data(), waiting.size(), &timeout, nullptr) <= 0) return Waited::timed_out;
  return waiting[1].revents != 0 ? Waited::ready : Waited::woken;
}

// One non-blocking TCP connection to redis.
class Connection {
 public:
  static Result<Connection> open(const ClientOptions& options, int wake, Time deadline) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(options.port);
    if (::inet_pton(AF_INET, options.address.c_str(), &address.sin_addr) != 1)
      return Error{Errc::invalid_input, "\"" + options.address + "\" is not an IPv4 address"};
    UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!socket) return system_error("cannot open a socket", errno);
    const int on = 1;
    ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 &&
        errno != EINPROGRESS)
      return system_error("cannot connect", errno);
    if (wait_for(socket.get(), POLLOUT, wake, deadline) != Waited::ready)
      return Error{Errc::timed_out, "cannot connect: no answer"};
    int problem = 0;
    socklen_t length = sizeof problem;
    ::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &problem, &length);
    if (problem != 0) return system_error("cannot connect", problem);
    return Connection(std::move(socket));
  }

  void queue(const std::string& bytes) { unsent_ += bytes; }

  // Sends and receives for as long as nothing has come and the deadline is not reached. An error is
  // the end of the connection.
  Result<Waited> exchange(int wake, Time deadline) {
    if (auto sent = send_queued(); !sent) return sent.error();
    const auto events = static_cast<short>(unsent_.empty() ? POLLIN : POLLIN | POLLOUT);
    const Waited waited = wait_for(socket_.get(), events, wake, deadline);
    if (waited != Waited::ready) return waited;
    if (auto sent = send_queued(); !sent) return sent.error();
    if (auto got = receive(); !got) return got.error();
    return waited;
  }

  Result<std::optional<RespValue>> next() { return parser_.next(); }

 private:
  explicit Connection(UniqueFd socket) : socket_(std::move(socket)) {}

  Result<void> send_queued() {
    while (!unsent_.empty()) {
      const ssize_t sent = ::send(socket_.get(), unsent_.data(), unsent_.size(), MSG_NOSIGNAL);
      if (sent < 0 && errno == EINTR) continue;
      if (sent < 0 && errno == EAGAIN) return {};
      if (sent < 0) return system_error("the connection broke", errno);
      unsent_.erase(0, static_cast<std::size_t>(sent));
    }
    return {};
  }

  Result<void> receive() {
    std::array<char, 16384> buffer;
    for (;;) {
      const ssize_t got = ::recv(socket_.get(), buffer.data(), buffer.size(), 0);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0 && errno == EAGAIN) return {};
      if (got < 0) return system_error("the connection broke", errno);
      if (got == 0) return Error{Errc::closed, "redis closed the connection"};
      if (auto fed = parser_.feed({buffer.data(), static_cast<std::size_t>(got)}); !fed) return fed;
      // What is here is handled before more is taken.
      return {};
    }
  }

  UniqueFd socket_;
  RespParser parser_;
  std::string unsent_;
};

// Waits until redis answers a PING on this connection.
Result<void> ping(Connection& connection, int wake, Time deadline) {
  connection.queue(encode_command({"PING"}));
  while (Clock::now() < deadline) {
    auto waited = connection.exchange(wake, deadline);
    if (!waited) return waited.error();
    if (*waited == Waited::woken) break;
    auto reply = connection.next();
    if (!reply) return reply.error();
    if (!*reply) continue;
    if ((*reply)->kind == RespValue::Kind::simple && (*reply)->text == "PONG") return {};
    // "LOADING": redis is up but reads its data first.
    return Error{Errc::unavailable, "redis says: " + (*reply)->text};
  }
  return Error{Errc::timed_out, "redis does not answer a PING"};
}

}  // namespace

// What belongs to the client's thread alone.
class RedisClient::Worker {
 public:
  explicit Worker(RedisClient& owner) : owner_(owner), ledger_(owner.options_.window) {}

  Result<void> connect(milliseconds timeout) {
    if (broken_) return *broken_;
    const Time deadline = Clock::now() + timeout;
    Error last{Errc::timed_out, "it was not tried"};
    while (Clock::now() < deadline && !owner_.stopping_) {
      const Time until = std::min(deadline, Clock::now() + kAttempt);
      auto opened = Connection::open(owner_.options_, owner_.stop_.get(), until);
      if (opened) {
        auto answered = ping(*opened, owner_.stop_.get(), until);
        if (answered) {
          connection_.emplace(std::move(*opened));
          problem_.clear();
          return {};
        }
        last = answered.error();
      } else {
        last = opened.error();
      }
      wait_for(-1, 0, owner_.stop_.get(), Clock::now() + kBetweenAttempts);
    }
    return Error{Errc::timed_out, "redis at " + owner_.options_.address +
                                      " did not answer within " + std::to_string(timeout.count()) +
                                      " ms (" + last.message + ")"};
  }

  // Writes until a job comes in, the connection dies or the client ends.
  void write() {
    const auto period = std::chrono::duration_cast<Clock::duration>(
        std::chrono::duration<double>(1 / owner_.options_.writes_per_second));
    Time due = Clock::now();
    while (connection_ && !owner_.interrupted()) {
      const Time now = Clock::now();
      while (due <= now && ledger_.may_send()) {
        const auto n = ledger_.send();
        connection_->queue(
            encode_command({"SET", WriteLedger::key_of(n), WriteLedger::value_of(n)}));
        due = std::max(due + period, now - kCatchUp);
      }
      const Time wake_up = ledger_.may_send() ? due : now + milliseconds(100);
      take_answers(owner_.wake_.get(), wake_up);
    }
  }

  ClientReport finish(FinishLimits limits) {
    const Time requested = Clock::now();
    ClientReport report;
    while (connection_ && ledger_.outstanding() > 0 && !owner_.stopping_ &&
           Clock::now() < requested + limits.answers)
      take_answers(owner_.stop_.get(), requested + limits.answers);
    if (connection_ && ledger_.outstanding() > 0)
      lose(Error{Errc::timed_out, "redis left writes unanswered for " +
                                      std::to_string(limits.answers.count()) + " ms"});
    if (!connection_) report.waiting_until = Clock::now();

    ReadBack read_back(ledger_.acknowledged());
    const Time deadline = Clock::now() + limits.read_back;
    if (connection_) ask_back(read_back, deadline);
    report.connection_survived = connection_.has_value();
    report.connection_problem = problem_;
    while (!read_back.complete() && Clock::now() < deadline && !owner_.stopping_) {
      const auto left = std::chrono::duration_cast<milliseconds>(deadline - Clock::now());
      if (auto again = connect(left); !again) {
        problem_ = again.error().message;
        break;
      }
      read_back.restart();
      ask_back(read_back, deadline);
    }
    if (!read_back.complete()) report.read_back_problem = problem_;
    report.sent = ledger_.sent();
    report.acknowledged = ledger_.acknowledged().size();
    report.lost = read_back.lost();
    report.lost_examples = read_back.examples();
    report.answers = ledger_.answer_times();
    return report;
  }

 private:
  void lose(const Error& error) {
    connection_.reset();
    problem_ = error.message;
    const std::lock_guard lock(owner_.mutex_);
    owner_.progress_.problem = problem_;
  }

  void take_answers(int wake, Time deadline) {
    auto waited = connection_->exchange(wake, deadline);
    const Time now = Clock::now();
    for (;;) {
      auto reply = connection_->next();
      if (!reply) return lose(reply.error());
      if (!*reply) break;
      if (auto noted = ledger_.answer(now, **reply); !noted) return lose(noted.error());
    }
    {
      const std::lock_guard lock(owner_.mutex_);
      owner_.progress_.sent = ledger_.sent();
      owner_.progress_.acknowledged = ledger_.acknowledged().size();
      if (!ledger_.answer_times().empty())
        owner_.progress_.last_answer = ledger_.answer_times().back();
    }
    // Answers that came before the end count; so the end is looked at last.
    if (!waited) lose(waited.error());
  }

  void ask_back(ReadBack& read_back, Time deadline) {
    while (!read_back.complete() && !owner_.stopping_) {
      while (read_back.outstanding() < owner_.options_.window) {
        const auto n = read_back.ask();
        if (!n) break;
        connection_->queue(encode_command({"GET", WriteLedger::key_of(*n)}));
      }
      auto waited = connection_->exchange(owner_.stop_.get(), deadline);
      if (!waited) return lose(waited.error());
      for (;;) {
        auto reply = connection_->next();
        if (!reply) return lose(reply.error());
        if (!*reply) break;
        if (auto noted = read_back.answer(**reply); !noted) return lose(noted.error());
      }
      if (Clock::now() >= deadline)
        return lose(Error{Errc::timed_out, "redis did not answer all questions in time"});
    }
  }

  RedisClient& owner_;
  std::optional<Connection> connection_;
  WriteLedger ledger_;
  std::string problem_;
  std::optional<Error> broken_;  // the thread could not enter its namespace

  friend class RedisClient;
};

RedisClient::RedisClient(ClientOptions options) : options_(std::move(options)) {
  wake_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  stop_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  thread_ = std::thread([this] {
    Worker worker(*this);
    run(worker);
  });
}

RedisClient::~RedisClient() {
  stopping_ = true;
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(stop_.get(), &one, sizeof one);
  post([](Worker&) {});
  thread_.join();
}

void RedisClient::post(std::function<void(Worker&)> job) {
  {
    const std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(job));
  }
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof one);
}

bool RedisClient::interrupted() const {
  const std::lock_guard lock(mutex_);
  return stopping_ || !jobs_.empty();
}

void RedisClient::run(Worker& worker) {
  std::optional<Error> outside;
  if (options_.net != nullptr) {
    if (auto entered = options_.net->enter(); !entered) outside = entered.error();
  }
  worker.broken_ = outside;
  while (!stopping_) {
    wait_for(-1, 0, wake_.get(), Clock::now() + std::chrono::hours(1));
    std::uint64_t ignored = 0;
    [[maybe_unused]] const ssize_t drained = ::read(wake_.get(), &ignored, sizeof ignored);
    for (;;) {
      std::function<void(Worker&)> job;
      {
        const std::lock_guard lock(mutex_);
        if (jobs_.empty()) break;
        job = std::move(jobs_.front());
        jobs_.pop_front();
      }
      job(worker);
    }
  }
}

std::future<Result<void>> RedisClient::connect(milliseconds timeout) {
  auto promise = std::make_shared<std::promise<Result<void>>>();
  post([promise, timeout](Worker& worker) { promise->set_value(worker.connect(timeout)); });
  return promise->get_future();
}

void RedisClient::start_writing() {
  post([](Worker& worker) { worker.write(); });
}

std::future<ClientReport> RedisClient::finish(FinishLimits limits) {
  auto promise = std::make_shared<std::promise<ClientReport>>();
  post([promise, limits](Worker& worker) { promise->set_value(worker.finish(limits)); });
  return promise->get_future();
}

ClientProgress RedisClient::progress() const {
  const std::lock_guard lock(mutex_);
  return progress_;
}

}  // namespace tandem::demo
