// What `tandem doctor` asks of the network: its own port, and the peers' daemons.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "base/asio.hpp"
#include "base/error.hpp"
#include "engine/cli/check.hpp"
#include "engine/cli/host_checks.hpp"
#include "engine/daemon/config.hpp"
#include "engine/transport/tcp.hpp"

namespace tandem::cli {

/// How a daemon introduces itself to a hello with {"probe":true} on a control lane.
struct Introduction {
  std::string host, version;
  std::optional<std::string> qemu_version;  ///< nothing while it has not examined its QEMU
  std::string accelerator;
  std::string arbiter;  ///< kind and place
  std::string machine;  ///< the same for two daemons exactly if they share a kernel
  std::chrono::duration<double> clock_ahead{0};  ///< its clock, compared with ours
  std::chrono::duration<double> round_trip{0};
};

/// Asks and hangs up: no pair begins. Errc::unavailable or ::timed_out if nobody answers,
/// ::protocol if what answers is no tandemd, ::refused for another version of the protocol.
Task<Result<Introduction>> ask_peer(transport::Endpoint endpoint,
                                    std::chrono::milliseconds timeout);

/// Errc::protocol names the field. Sets all but the times; `time_of_answer` is the daemon's clock.
Result<Introduction> parse_introduction(std::string_view text, double& time_of_answer);

/// The own port is free, or held by the own daemon.
Checks check_listen(const daemon::Config& config);

/// What a peer's daemon says fits this host. `probed`: this host's QEMU, if known. Pure.
Checks judge_peer(const daemon::Config& config, const daemon::Peer& peer,
                  const Introduction& introduction, const std::string& own_machine,
                  const std::optional<hypervisor::QemuProbe>& probed);

Checks check_peer(const daemon::Config& config, const daemon::Peer& peer,
                  const std::optional<hypervisor::QemuProbe>& probed);

}  // namespace tandem::cli
