// An asynchronous QMP client: one connection to one QEMU's monitor socket.
//
// Promises: every command gets exactly one answer, a reply or an error (the connection's end included);
// events reach the handler in the order in which QEMU sent them; what QEMU sends is bounded in size and
// never trusted. All calls and handlers run on the executor the client was connected on; it is not
// thread-safe.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "base/asio.hpp"
#include "base/error.hpp"

namespace tandem::qmp {

struct Version {
  int major = 0, minor = 0, micro = 0;
  std::string package;  ///< the distributor's suffix, "Debian 1:7.2+dfsg-7+deb12u18"
  friend bool operator==(const Version&, const Version&) = default;
};

/// "7.2.22"
std::string to_string(const Version& version);

struct Event {
  std::string name;     ///< "STOP", "RESUME", "COLO_EXIT", …
  nlohmann::json data;  ///< an object; empty if QEMU sent none
  std::chrono::system_clock::time_point at;  ///< QEMU's own time stamp, microseconds
};

struct ClientOptions {
  std::chrono::milliseconds connect_timeout{5000};  ///< for connect, greeting and negotiation together
  std::chrono::milliseconds command_timeout{5000};  ///< unless the command says otherwise
  std::size_t message_bytes_max = 16u << 20;        ///< one line from QEMU
  std::size_t pending_max = 256;                    ///< commands without an answer
};

struct ExecuteOptions {
  std::chrono::milliseconds timeout{0};  ///< 0: the client's command_timeout
  bool out_of_band = false;              ///< "exec-oob": runs even while QEMU's main loop is busy
  int fd = -1;  ///< a file descriptor sent along (SCM_RIGHTS), as getfd and add-fd want; not closed
};

class Client : public std::enable_shared_from_this<Client> {
 public:
  using EventHandler = std::function<void(const Event&)>;
  using CloseHandler = std::function<void(const Error&)>;

  /// Connects to the unix socket at `path`, reads the greeting and negotiates (out-of-band execution is
  /// enabled where QEMU offers it). Errc::unavailable: nobody listens; ::protocol: it is not QMP;
  /// ::timed_out: connected, but silent.
  static Task<Result<std::shared_ptr<Client>>> connect(std::string path, ClientOptions options = {});

  ~Client();

  /// Runs one command and returns its "return" value. QEMU's own errors are Errc::refused and carry class
  /// and text; a command that got no answer in time is ::timed_out (a late answer is discarded); a
  /// connection that ended, before or while waiting, is ::closed.
  Task<Result<nlohmann::json>> execute(std::string command,
                                       nlohmann::json arguments = nlohmann::json::object(),
                                       ExecuteOptions options = {});

  /// The handler gets every event from now on; it replaces the one before.
  void on_event(EventHandler handler);

  /// Called once, when the connection ends for any reason but close(): QEMU died, sent garbage, ….
  /// If it has ended already, called at once.
  void on_close(CloseHandler handler);

  [[nodiscard]] bool is_open() const noexcept;
  [[nodiscard]] const Version& version() const noexcept;  ///< from the greeting
  [[nodiscard]] bool supports_out_of_band() const noexcept;

  /// Ends the connection; commands still waiting get Errc::closed. Idempotent.
  void close() noexcept;

 private:
  class Impl;
  explicit Client(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace tandem::qmp
