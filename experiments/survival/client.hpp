// The experiment's client: a thread in a network namespace that keeps any number of conversations
// with the guest going at once.
#pragma once

#include <atomic>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/error.hpp"
#include "base/unique_fd.hpp"
#include "experiments/survival/conversation.hpp"
#include "experiments/world/net_namespace.hpp"

namespace tandem::survival {

class Client {
 public:
  /// `net` must outlive the client. The addresses are IPv4.
  static Result<std::unique_ptr<Client>> start(const world::NetNamespace& net,
                                               const std::string& own_address,
                                               const std::string& guest_address);
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  /// Gives all conversations up.
  ~Client();

  /// Begins a conversation; its number counts from 0.
  std::size_t open(std::unique_ptr<Exchange> exchange, Opening opening);
  /// All conversations, by number.
  [[nodiscard]] std::vector<Progress> progress() const;
  /// Ends conversation `number`, in good order if that is possible within `limit`.
  void finish(std::size_t number, std::chrono::milliseconds limit);
  /// Ends all, and answers when they have ended.
  std::future<std::vector<Outcome>> finish_all(std::chrono::milliseconds limit);

 private:
  Client() = default;
  void post(std::function<void()> job);
  void wake();
  void run();
  void turn();
  void publish();

  in_addr own_{}, guest_{};
  UniqueFd wake_;
  std::atomic<bool> stopping_{false};
  mutable std::mutex mutex_;
  std::vector<std::function<void()>> jobs_;
  std::vector<Progress> published_;
  // The thread's own:
  std::vector<std::unique_ptr<Conversation>> conversations_;
  std::shared_ptr<std::promise<std::vector<Outcome>>> finished_;
  std::thread thread_;
};

}  // namespace tandem::survival
