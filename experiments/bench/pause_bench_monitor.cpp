#include "experiments/bench/pause_bench_monitor.hpp"

#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <optional>

#include "qmp/commands.hpp"

namespace tandem::bench {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr milliseconds kRarely{3'600'000};
constexpr milliseconds kPoll{20};
constexpr std::uint64_t kBandwidth = 100'000'000'000;
constexpr const char* kStream = "bench-stream";

std::string socket_name(const std::string& vm) {
  return "tandem-bench-" + vm;
}

}  // namespace

Result<std::unique_ptr<NamespaceThread>> NamespaceThread::start(const world::NetNamespace& net) {
  std::unique_ptr<NamespaceThread> self(new NamespaceThread);
  std::promise<Result<void>> entered;
  auto result = entered.get_future();
  self->thread_ = std::thread([&net, &entered, io = &self->io_] {
    auto inside = net.enter();
    const bool failed = !inside;
    entered.set_value(std::move(inside));
    if (!failed) io->run();
  });
  if (const auto inside = result.get(); !inside) return inside.error();
  return self;
}

NamespaceThread::~NamespaceThread() {
  io_.stop();
  if (thread_.joinable()) thread_.join();
}

// Lives on the thread, except where said otherwise.
struct Monitor::State {
  explicit State(const asio::any_io_executor& executor) : timer(executor) {}

  std::shared_ptr<qmp::Client> client;
  std::vector<RunChange> changes;
  std::optional<Error> ended;
  milliseconds run_time{0};  // zero: QEMU keeps the time
  asio::steady_timer timer;

  Task<Result<void>> set_delay(milliseconds period) {
    qmp::MigrationParameters parameters;
    parameters.checkpoint_delay_ms = static_cast<std::uint32_t>(period.count());
    co_return co_await qmp::set_parameters(*client, parameters);
  }

  static Task<void> pace(std::shared_ptr<State> self) {
    self->timer.expires_after(self->run_time);
    const auto [ec] = co_await self->timer.async_wait(use_tuple);
    if (ec || self->run_time == milliseconds(0)) co_return;
    const auto asked = co_await self->set_delay(kRarely);
    if (!asked) self->ended = asked.error();
  }

  static Task<Result<void>> open(std::shared_ptr<State> self, std::string vm) {
    std::string address(1, '\0');
    address += socket_name(vm);
    auto connected = co_await qmp::Client::connect(address);
    if (!connected) co_return with_context("the monitor of " + vm, connected.error());
    self->client = *connected;
    const std::weak_ptr<State> weak = self;
    self->client->on_event([weak, executor = self->timer.get_executor()](const qmp::Event& event) {
      const auto state = weak.lock();
      const bool runs = event.name == "RESUME";
      if (!state || (!runs && event.name != "STOP")) return;
      state->changes.push_back({runs, event.at});
      if (runs && state->run_time > milliseconds(0))
        asio::co_spawn(executor, pace(state), asio::detached);
    });
    self->client->on_close([weak](const Error& error) {
      if (const auto state = weak.lock()) state->ended = error;
    });
    co_return Result<void>();
  }

  static Task<Result<std::vector<RunChange>>> copy_changes(std::shared_ptr<State> self) {
    if (self->ended) co_return *self->ended;
    co_return self->changes;
  }

  static Task<Result<void>> set_pace(std::shared_ptr<State> self, milliseconds period,
                                     milliseconds run) {
    self->run_time = run;
    self->timer.cancel();
    co_return co_await self->set_delay(period);
  }

  static Task<Result<void>> begin(std::shared_ptr<State> self, int fd, bool incoming,
                                  std::vector<std::string> names) {
    auto& qmp = *self->client;
    std::vector<std::pair<std::string, bool>> capabilities;
    for (const auto& name : names) capabilities.emplace_back(name, true);
    auto done = co_await qmp::set_capabilities(qmp, capabilities);
    if (!done) co_return done;
    qmp::MigrationParameters parameters;
    parameters.checkpoint_delay_ms = 250;
    parameters.max_bandwidth = kBandwidth;
    done = co_await qmp::set_parameters(qmp, parameters);
    if (!done) co_return done;
    done = co_await qmp::getfd(qmp, kStream, fd);
    if (!done) co_return done;
    const auto uri = std::string("fd:") + kStream;
    if (incoming)
      done = co_await qmp::migrate_incoming(qmp, uri);
    else
      done = co_await qmp::migrate(qmp, uri);
    co_return done;
  }

  static Task<Result<void>> await_colo(std::shared_ptr<State> self, milliseconds timeout) {
    const auto deadline = Clock::now() + timeout;
    asio::steady_timer poll(self->timer.get_executor());
    for (;;) {
      const auto status = co_await qmp::query_migrate(*self->client);
      if (!status) co_return status.error();
      if (status->status == "colo") co_return Result<void>();
      if (status->status == "failed" || status->status == "completed")
        co_return Error{Errc::refused, "the migration ended \"" + status->status +
                                           "\" instead of entering COLO: " + status->description};
      if (Clock::now() >= deadline)
        co_return Error{Errc::timed_out,
                        "the migration is still \"" + status->status + "\" and not in COLO"};
      poll.expires_after(kPoll);
      co_await poll.async_wait(use_tuple);
    }
  }

  static Task<Result<void>> close(std::shared_ptr<State> self) {
    self->run_time = milliseconds(0);
    self->timer.cancel();
    if (self->client) self->client->close();
    // Dropped here, on its own thread.
    self->client.reset();
    co_return Result<void>();
  }
};

std::vector<std::string> Monitor::qemu_arguments(const std::string& vm) {
  return {"-chardev",
          "socket,id=bench-qmp,server=on,wait=off,abstract=on,tight=off,path=" + socket_name(vm),
          "-mon",
          "chardev=bench-qmp,mode=control",
          "-trace",
          "enable=migration_bitmap_sync_end"};
}

Result<Monitor> Monitor::connect(NamespaceThread& thread, const std::string& vm) {
  const auto state = std::make_shared<State>(thread.executor());
  if (auto opened = thread.run(State::open(state, vm)); !opened) return opened.error();
  return Monitor(thread, state);
}

Monitor::~Monitor() {
  if (state_) [[maybe_unused]]
    const auto closed = thread_->run(State::close(state_));
}

Result<std::vector<RunChange>> Monitor::changes() const {
  return thread_->run(State::copy_changes(state_));
}

Result<void> Monitor::set_delay(milliseconds period, milliseconds run) {
  return thread_->run(State::set_pace(state_, period, run));
}

Result<void> Monitor::checkpoint_every(milliseconds period) {
  return set_delay(period, milliseconds(0));
}

Result<void> Monitor::checkpoint_after_running(milliseconds time) {
  return set_delay(kRarely, time);
}

Result<void> Monitor::checkpoint_rarely() {
  return set_delay(kRarely, milliseconds(0));
}

Result<void> Monitor::migrate(int fd, const std::vector<std::string>& capabilities) {
  return thread_->run(State::begin(state_, fd, false, capabilities));
}

Result<void> Monitor::migrate_incoming(int fd, const std::vector<std::string>& capabilities) {
  return thread_->run(State::begin(state_, fd, true, capabilities));
}

Result<void> Monitor::wait_for_colo(milliseconds timeout) {
  return thread_->run(State::await_colo(state_, timeout));
}

}  // namespace tandem::bench
