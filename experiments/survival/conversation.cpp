#include "experiments/survival/conversation.hpp"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace tandem::survival {
namespace {

// A request that no connection has followed is made again; peerd does not dial twice.
constexpr std::chrono::milliseconds ask_again{250};
// As much as is done for one connection before the others have their turn.
constexpr int reads_max = 16;
constexpr int sends_max = 4;

sockaddr_in address_of(in_addr host, std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr = host;
  address.sin_port = htons(port);
  return address;
}

const sockaddr* generic(const sockaddr_in& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

int set(int fd, int option, int value) {
  return ::setsockopt(fd, IPPROTO_TCP, option, &value, sizeof value);
}

/// A kernel keeps a sequence number that is set before connect(), also when repair is off again.
bool preset_sequence(int fd, std::uint32_t number) {
  int queue_number = 0;
  std::memcpy(&queue_number, &number, sizeof number);
  return set(fd, TCP_REPAIR, 1) == 0 && set(fd, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE) == 0 &&
         set(fd, TCP_QUEUE_SEQ, queue_number) == 0 && set(fd, TCP_REPAIR, 0) == 0;
}

std::string text_of(int error) {
  return std::strerror(error);
}

}  // namespace

Conversation::Conversation(std::unique_ptr<Exchange> exchange, Opening opening, in_addr client,
                           in_addr guest)
    : exchange_(std::move(exchange)), opening_(opening), client_(client), guest_(guest) {
  outcome_.opened = opening.when;
}

pollfd Conversation::interest() const {
  switch (state_) {
    case State::connecting:
      return {socket_.get(), POLLOUT, 0};
    case State::asking:
      return {socket_.get(), POLLIN, 0};
    case State::talking:
    case State::closing:
      return {socket_.get(), static_cast<short>(out_.empty() ? POLLIN : POLLIN | POLLOUT), 0};
    case State::waiting:
    case State::ended:
      break;
  }
  return {-1, 0, 0};
}

std::optional<Time> Conversation::due() const {
  std::optional<Time> due = deadline_;
  const auto at = [&](std::optional<Time> when) {
    if (when && (!due || *when < *due)) due = when;
  };
  if (state_ == State::waiting) at(opening_.when);
  if (state_ == State::asking) at(next_request_);
  if (state_ == State::talking && out_.empty()) at(exchange_->due());
  if (state_ == State::ended) due.reset();
  return due;
}

void Conversation::tick(Time now) {
  if (state_ == State::waiting && now >= opening_.when) open(now);
  if (state_ == State::connecting) check_connected(now);
  if (state_ == State::asking) accept(now);
  if (state_ == State::talking || state_ == State::closing) talk(now);
  if (deadline_ && now >= *deadline_ && state_ != State::ended) {
    if (!outcome_.established) {
      end("the connection was never established");
    } else {
      end(exchange_->complete() ? "the guest did not end the connection" : exchange_->missing());
    }
  }
}

void Conversation::finish(Time deadline) {
  deadline_ = deadline;
  exchange_->finish();
}

void Conversation::open(Time now) {
  outcome_.opened = now;
  if (opening_.by == Opening::By::client) {
    connect();
  } else {
    listen();
  }
}

void Conversation::connect() {
  socket_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket_) return end("no socket: " + text_of(errno));
  set(socket_.get(), TCP_NODELAY, 1);
  if (opening_.sequence && !preset_sequence(socket_.get(), *opening_.sequence))
    return end("the sequence number cannot be set: " + text_of(errno));
  const auto to = address_of(guest_, opening_.port);
  if (::connect(socket_.get(), generic(to), sizeof to) != 0 && errno != EINPROGRESS)
    return end("cannot connect: " + text_of(errno));
  state_ = State::connecting;
}

void Conversation::listen() {
  socket_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  request_.reset(::socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket_ || !request_) return end("no socket: " + text_of(errno));
  auto own = address_of(client_, 0);
  socklen_t length = sizeof own;
  const auto to = address_of(guest_, opening_.port);
  if (::bind(socket_.get(), generic(own), sizeof own) != 0 || ::listen(socket_.get(), 4) != 0 ||
      ::getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&own), &length) != 0 ||
      ::connect(request_.get(), generic(to), sizeof to) != 0)
    return end("cannot listen: " + text_of(errno));
  std::array<char, INET_ADDRSTRLEN> name{};
  ::inet_ntop(AF_INET, &client_, name.data(), name.size());
  dial_ = std::string("DIAL ") + name.data() + " " + std::to_string(ntohs(own.sin_port)) + " " +
          (opening_.sequence ? std::to_string(*opening_.sequence) : "-");
  next_request_ = outcome_.opened;
  state_ = State::asking;
}

void Conversation::ask_to_dial(Time now) {
  std::array<char, 128> answer{};
  // An error of the socket is an ICMP message about an earlier request: that is made again.
  const auto got = ::recv(request_.get(), answer.data(), answer.size(), 0);
  if (got > 0 && std::string_view(answer.data(), static_cast<std::size_t>(got)).starts_with("err"))
    return end("the guest cannot dial: " +
               std::string(answer.data(), static_cast<std::size_t>(got)));
  if (now < next_request_) return;
  [[maybe_unused]] const auto sent = ::send(request_.get(), dial_.data(), dial_.size(), 0);
  next_request_ = now + ask_again;
}

void Conversation::accept(Time now) {
  const int accepted = ::accept4(socket_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (accepted < 0) return ask_to_dial(now);
  socket_.reset(accepted);
  request_.reset();
  set(accepted, TCP_NODELAY, 1);
  established(now);
}

void Conversation::check_connected(Time now) {
  pollfd ready{socket_.get(), POLLOUT, 0};
  if (::poll(&ready, 1, 0) <= 0) return;
  int problem = 0;
  socklen_t length = sizeof problem;
  ::getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &problem, &length);
  if (problem != 0) return end("cannot connect: " + text_of(problem));
  established(now);
}

void Conversation::established(Time now) {
  outcome_.established = now;
  state_ = State::talking;
}

void Conversation::talk(Time now) {
  for (int reads = 0; reads < reads_max; ++reads)
    if (!receive(now)) break;
  if (state_ == State::talking) {
    if (out_.empty()) exchange_->produce(now, out_);
    send_queued(now);
  }
}

// Whether there may be more.
bool Conversation::receive(Time now) {
  std::array<char, 65536> buffer;
  const auto got = ::recv(socket_.get(), buffer.data(), buffer.size(), 0);
  if (got < 0) {
    if (errno != EAGAIN && errno != EINTR) end("the connection broke: " + text_of(errno));
    return false;
  }
  if (got == 0) {
    if (state_ == State::closing && exchange_->complete()) {
      outcome_.survived = true;
      end("");
    } else {
      end("the guest ended the connection: " + exchange_->missing());
    }
    return false;
  }
  const auto right = exchange_->consume({buffer.data(), static_cast<std::size_t>(got)}, now);
  if (!right) end(right.error().message);
  return right && static_cast<std::size_t>(got) == buffer.size();
}

void Conversation::send_queued(Time now) {
  for (int sends = 0; sends < sends_max && !out_.empty(); ++sends) {
    const auto sent = ::send(socket_.get(), out_.data(), out_.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno == EAGAIN) return;
    if (sent < 0) return end("the connection broke: " + text_of(errno));
    out_.erase(0, static_cast<std::size_t>(sent));
    if (out_.empty()) exchange_->produce(now, out_);
  }
  if (!out_.empty()) return;
  if (exchange_->settled()) {
    ::shutdown(socket_.get(), SHUT_WR);
    state_ = State::closing;
  }
}

void Conversation::end(std::string problem) {
  outcome_.problem = std::move(problem);
  outcome_.account = exchange_->account();
  tcp_info info{};
  socklen_t length = sizeof info;
  if (outcome_.established &&
      ::getsockopt(socket_.get(), IPPROTO_TCP, TCP_INFO, &info, &length) == 0)
    outcome_.retransmitted = info.tcpi_total_retrans;
  if (opening_.sequence) {
    const auto& account = outcome_.account;
    const auto bytes = opening_.by == Opening::By::client ? account.sent : account.received;
    outcome_.wrapped = std::uint64_t{*opening_.sequence} + 1 + bytes > UINT32_MAX;
  }
  socket_.reset();
  request_.reset();
  state_ = State::ended;
}

Progress Conversation::progress() const {
  const auto& account = exchange_->account();
  Progress progress;
  progress.established = outcome_.established.has_value();
  progress.ended = ended();
  progress.replies = account.replies;
  if (!account.answers.empty()) progress.last_answer = account.answers.back();
  progress.problem = outcome_.problem;
  return progress;
}

Outcome Conversation::outcome() const {
  Outcome outcome = outcome_;
  outcome.account = exchange_->account();
  return outcome;
}

}  // namespace tandem::survival
