// The benchmark's own monitor of a QEMU inside a simulated host: it notes when the VM stopped and
// ran, sets the time between checkpoints, and if wanted paces them itself.
#pragma once

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/asio.hpp"
#include "base/error.hpp"
#include "experiments/bench/pause_bench_stats.hpp"
#include "experiments/world/net_namespace.hpp"

namespace tandem::bench {

/// A thread that lives in a network namespace and runs coroutines there.
class NamespaceThread {
 public:
  static Result<std::unique_ptr<NamespaceThread>> start(const world::NetNamespace& net);
  NamespaceThread(const NamespaceThread&) = delete;
  NamespaceThread& operator=(const NamespaceThread&) = delete;
  /// Ends the coroutines that still run.
  ~NamespaceThread();

  /// Runs the coroutine on the thread and waits for its result. Not from the thread itself.
  template <class T>
  T run(Task<T> task) {
    const auto promise = std::make_shared<std::promise<T>>();
    auto result = promise->get_future();
    asio::co_spawn(io_, deliver(std::move(task), promise), asio::detached);
    return result.get();
  }
  [[nodiscard]] asio::any_io_executor executor() { return io_.get_executor(); }

 private:
  NamespaceThread() = default;

  template <class T>
  static Task<void> deliver(Task<T> task, std::shared_ptr<std::promise<T>> promise) {
    T value = co_await std::move(task);
    promise->set_value(std::move(value));
  }

  asio::io_context io_{1};
  asio::executor_work_guard<asio::io_context::executor_type> work_{io_.get_executor()};
  std::thread thread_;
};

/// Not thread-safe: for the benchmark's one main thread.
class Monitor {
 public:
  /// QEMU arguments that give a VM such a monitor, and the trace that counts written pages. The
  /// socket is an abstract one: both hosts of a pair have one of the same name, each in its own
  /// network namespace.
  static std::vector<std::string> qemu_arguments(const std::string& vm);

  /// Connects to the monitor of `vm` in the thread's namespace. The thread must outlive it.
  static Result<Monitor> connect(NamespaceThread& thread, const std::string& vm);
  Monitor(Monitor&& other) noexcept = default;
  Monitor& operator=(Monitor&&) = delete;
  ~Monitor();

  /// What has been seen since the connection began, oldest first. An error if it has ended.
  Result<std::vector<RunChange>> changes() const;

  /// A checkpoint now, and then one every `period`.
  Result<void> checkpoint_every(std::chrono::milliseconds period);
  /// A checkpoint now, and then one whenever the VM has run for `time` since its RESUME.
  Result<void> checkpoint_after_running(std::chrono::milliseconds time);
  /// A checkpoint now, and then none for an hour.
  Result<void> checkpoint_rarely();

  /// Gives QEMU a descriptor and starts the migration over it as this end. `capabilities` are
  /// switched on before.
  Result<void> migrate(int fd, const std::vector<std::string>& capabilities);
  Result<void> migrate_incoming(int fd, const std::vector<std::string>& capabilities);
  /// Waits until the VM is in COLO mode.
  Result<void> wait_for_colo(std::chrono::milliseconds timeout);

 private:
  struct State;
  Monitor(NamespaceThread& thread, std::shared_ptr<State> state)
      : thread_(&thread), state_(std::move(state)) {}
  Result<void> set_delay(std::chrono::milliseconds period, std::chrono::milliseconds run);

  NamespaceThread* thread_;
  std::shared_ptr<State> state_;
};

}  // namespace tandem::bench
