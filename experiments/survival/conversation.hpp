// One TCP connection between an experiment's client and its guest, from its opening to the last
// byte of its orderly end, and what became of it.
//
// It belongs to one thread, never blocks, and is driven by whoever polls its descriptor.
#pragma once

#include <netinet/in.h>
#include <poll.h>

#include <memory>
#include <optional>
#include <string>

#include "base/error.hpp"
#include "base/unique_fd.hpp"
#include "experiments/survival/exchange.hpp"

namespace tandem::survival {

/// How a connection comes about.
struct Opening {
  enum class By { client, guest };
  By by = By::client;
  Time when{};  ///< not before
  /// The number of the opener's SYN; nullopt leaves it to the opener's kernel.
  std::optional<std::uint32_t> sequence{};
  std::uint16_t port = 7100;  ///< of the service; by guest: where peerd is asked to dial
};

/// What became of a connection.
struct Outcome {
  bool survived = false;  ///< whole, right, and ended by both sides
  std::string problem;    ///< why not
  Time opened;            ///< when connect() was called or the guest was first asked
  std::optional<Time> established;
  std::uint64_t retransmitted = 0;  ///< segments, by this side's kernel
  bool wrapped = false;             ///< the opener's sequence numbers passed 2^32
  Account account;
};

/// What can be told at any time.
struct Progress {
  bool established = false, ended = false;
  std::uint64_t replies = 0;
  std::optional<Time> last_answer;
  std::string problem;
};

class Conversation {
 public:
  /// `client` and `guest` are IPv4 addresses. The calling thread is in the client's namespace, now
  /// and whenever a member is called.
  Conversation(std::unique_ptr<Exchange> exchange, Opening opening, in_addr client, in_addr guest);

  /// What to poll for, and when to call tick() at the latest; fd -1: nothing.
  [[nodiscard]] pollfd interest() const;
  [[nodiscard]] std::optional<Time> due() const;
  /// Does what is to be done now, whether poll() has said something or not.
  void tick(Time now);

  /// Ends it in good order; what is not over at `deadline` has not survived.
  void finish(Time deadline);
  [[nodiscard]] bool ended() const noexcept { return state_ == State::ended; }

  [[nodiscard]] Progress progress() const;
  [[nodiscard]] Outcome outcome() const;

 private:
  enum class State { waiting, connecting, asking, talking, closing, ended };

  void open(Time now);
  void connect();
  void listen();
  void ask_to_dial(Time now);
  void accept(Time now);
  void check_connected(Time now);
  void talk(Time now);
  bool receive(Time now);
  void send_queued(Time now);
  void established(Time now);
  void end(std::string problem);

  std::unique_ptr<Exchange> exchange_;
  Opening opening_;
  in_addr client_, guest_;
  State state_ = State::waiting;
  UniqueFd socket_;   // the connection, or while asking the listener
  UniqueFd request_;  // UDP, to ask the guest to dial
  std::string dial_;  // the request
  Time next_request_;
  std::string out_;
  std::optional<Time> deadline_;
  Outcome outcome_;
};

}  // namespace tandem::survival
