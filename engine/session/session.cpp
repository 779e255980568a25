#include "engine/session/session.hpp"

#include <sys/socket.h>

#include <boost/asio/steady_timer.hpp>
#include <cerrno>

#include "base/unique_fd.hpp"
#include "qmp/commands.hpp"

namespace tandem::session {

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

Task<Result<int>> give_socket(qmp::Client& qmp, std::string name) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    co_return system_error("cannot make a socket pair", errno);
  }
  UniqueFd ours(ends[0]);
  const UniqueFd qemus(ends[1]);
  const auto given = co_await qmp::getfd(qmp, name, qemus.get());
  if (!given) co_return given.error();
  co_return ours.release();
}

}  // namespace tandem::session
