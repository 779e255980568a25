// The network filters of one NIC: the sockets to QEMU's capture and inject chardevs, and the output
// gate between them. DESIGN: the daemon never stops reading capture, for QEMU would freeze (R10).
#pragma once

#include <boost/asio/posix/stream_descriptor.hpp>
#include <functional>
#include <memory>
#include <string>

#include "base/asio.hpp"
#include "base/error.hpp"
#include "base/unique_fd.hpp"
#include "proxy/output_gate.hpp"
#include "qmp/client.hpp"

namespace tandem::session {

/// Every object and chardev that Tandem puts into a QEMU has an id that begins so; what a daemon
/// that died has left behind is found by it.
inline constexpr std::string_view object_prefix = "tnd-";

class NetChannel : public std::enable_shared_from_this<NetChannel> {
 public:
  enum class Side {
    primary,   ///< capture and inject: output is held and released
    secondary  ///< capture only: what the VM outputs before it is promoted is dropped
  };
  using ErrorHandler = std::function<void(const Error&)>;

  /// Attaches the filters of `netdev` to a running QEMU. After an error nothing is left in QEMU.
  static Task<Result<std::shared_ptr<NetChannel>>> attach(qmp::Client& qmp, std::string netdev,
                                                          Side side, proxy::GateLimits limits = {});

  /// Reads capture until close(); an end of file, bytes that are not frames, and a soft limit
  /// passed are told through the handlers.
  Task<void> pump(ErrorHandler on_error, std::function<void()> on_soft_limit);

  /// Takes in, without waiting, everything that QEMU has written to capture (R3). Returns frames.
  Result<std::uint64_t> drain();

  /// Writes what the gate has released to inject as far as QEMU takes it; the rest follows by
  /// itself.
  void flush();

  /// For a VM that goes on alone: opens the gate, takes the filters off in the order that loses and
  /// reorders nothing, and removes the chardevs.
  Task<Result<void>> open_and_detach(qmp::Client& qmp);

  /// Takes the filters off; what is captured is dropped.
  Task<Result<void>> detach(qmp::Client& qmp);

  /// Closes the sockets.
  void close();

  [[nodiscard]] proxy::OutputGate& gate() noexcept { return gate_; }
  [[nodiscard]] const std::string& netdev() const noexcept { return netdev_; }

 private:
  NetChannel(asio::any_io_executor executor, std::string netdev, Side side,
             proxy::GateLimits limits);
  [[nodiscard]] std::string id(std::string_view part) const;
  Task<void> flush_rest();

  std::string netdev_;
  Side side_;
  proxy::OutputGate gate_;
  asio::posix::stream_descriptor capture_, inject_;
  bool flushing_ = false;
};

/// Takes off whatever a former daemon has left: capture first, or the VM would stay mute.
Task<Result<void>> remove_leftover_filters(qmp::Client& qmp);

}  // namespace tandem::session
