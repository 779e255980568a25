// One thread and io_context a VM, so that one VM's copying never delays another's packets, and
// nothing of a pair needs a lock.
#pragma once

#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <thread>

namespace tandem::daemon {

class PairThread {
 public:
  PairThread();
  ~PairThread() { stop(); }
  PairThread(const PairThread&) = delete;
  PairThread& operator=(const PairThread&) = delete;

  [[nodiscard]] boost::asio::any_io_executor executor() { return context_.get_executor(); }

  /// Stops the io_context where it is and joins the thread. What waits on it is destroyed with it.
  void stop();

  /// How long ago the thread last did a round: the watchdog's question.
  [[nodiscard]] std::chrono::milliseconds idle_for() const noexcept;

 private:
  void tick();

  boost::asio::io_context context_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
  boost::asio::steady_timer timer_;
  std::atomic<std::chrono::steady_clock::rep> last_tick_;
  std::thread thread_;
};

}  // namespace tandem::daemon
