#include "engine/session/session.hpp"

#include <sys/socket.h>

#include <boost/asio/steady_timer.hpp>
#include <cerrno>

#include "base/unique_fd.hpp"
#include "qmp/commands.hpp"

namespace tandem::session {

void FailoverWatch::begin(std::chrono::system_clock::time_point last_heard, std::string reason) {
  times_.emplace();
  times_->detection = std::chrono::system_clock::now() - last_heard;
  times_->reason = std::move(reason);
  step_began_ = std::chrono::steady_clock::now();
}

void FailoverWatch::loaded(Checkpoint checkpoint) {
  if (times_) times_->checkpoint = checkpoint;
  lap(&FailoverTimes::load);
}

void FailoverWatch::lap(FailoverTimes::Milliseconds FailoverTimes::*step) {
  if (!times_) return;
  const auto now = std::chrono::steady_clock::now();
  (*times_).*step = now - step_began_;
  step_began_ = now;
}

Task<ArbiterAnswer> ask_arbiter(arbiter::Arbiter& arbiter, const PairSettings& settings,
                                Claim claim, const Observer& observer) {
  const auto verdict = co_await arbiter.claim_solo(settings.vm, claim.generation, settings.host);
  if (!verdict) {
    observer.event("arbiter-silent", verdict.error().message, {});
    co_return ArbiterSilent{verdict.error()};
  }
  if (!verdict->granted) {
    observer.event("arbiter-denied", verdict->holder + " goes on with the VM",
                   {{"generation", verdict->generation}, {"holder", verdict->holder}});
    co_return Denied{verdict->generation, verdict->holder};
  }
  observer.granted(verdict->generation);
  observer.event("arbiter-granted", "the arbiter lets " + settings.host + " go on with the VM",
                 {{"generation", verdict->generation}});
  co_return Granted{verdict->generation};
}

Task<void> wait_for(std::chrono::milliseconds delay) {
  asio::steady_timer timer(co_await asio::this_coro::executor, delay);
  co_await timer.async_wait(use_tuple);
}

Task<Result<void>> wait_until_running(qmp::Client& qmp, std::chrono::milliseconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  for (;;) {
    const auto status = co_await qmp::query_status(qmp);
    if (!status) co_return status.error();
    if (status->running) co_return Result<void>();
    if (std::chrono::steady_clock::now() > deadline) {
      co_return Error{Errc::timed_out, "the VM does not run; QEMU says \"" + status->state + "\""};
    }
    co_await wait_for(std::chrono::milliseconds(1));
  }
}

Task<Result<void>> wait_until_colo_has_ended(qmp::Client& qmp, std::chrono::milliseconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  for (;;) {
    const auto migration = co_await qmp::query_migrate(qmp);
    if (!migration) co_return migration.error();
    const auto& status = migration->status;
    if (status == "completed" || status == "failed" || status == "cancelled" || status == "none") {
      co_return Result<void>();
    }
    if (std::chrono::steady_clock::now() > deadline) {
      co_return Error{Errc::timed_out, "QEMU's migration is still \"" + status + "\""};
    }
    co_await wait_for(std::chrono::milliseconds(2));
  }
}

namespace {

// With the usual 200 KB the two processes hand a large checkpoint over in some hundred turns, each
// of which may wait for a processor; with this much the sender hardly ever has to.
constexpr int socket_buffer_bytes = 4 << 20;

void enlarge_buffer(int fd) {
  // The plain option is cut to net.core.wmem_max, which is what a daemon without CAP_NET_ADMIN
  // gets.
  if (::setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &socket_buffer_bytes,
                   sizeof socket_buffer_bytes) != 0) {
    (void)::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &socket_buffer_bytes, sizeof socket_buffer_bytes);
  }
}

}  // namespace

Task<Result<int>> give_socket(qmp::Client& qmp, std::string name) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    co_return system_error("cannot make a socket pair", errno);
  }
  UniqueFd ours(ends[0]);
  const UniqueFd qemus(ends[1]);
  // Of a unix socket, the sender's buffer is the one that counts.
  enlarge_buffer(ours.get());
  enlarge_buffer(qemus.get());
  const auto given = co_await qmp::getfd(qmp, name, qemus.get());
  if (!given) co_return given.error();
  co_return ours.release();
}

}  // namespace tandem::session
