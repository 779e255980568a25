// The QMP commands that Tandem uses, typed. Names follow QEMU's qapi schema (qapi/*.json).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "qmp/client.hpp"

namespace tandem::qmp {

/// query-status: "running", "paused", "inmigrate", "colo", "postmigrate", …
struct Status {
  bool running = false;
  std::string state;
};
Task<Result<Status>> query_status(Client& client);

Task<Result<void>> cont(Client& client);
Task<Result<void>> stop(Client& client);
/// Ends the QEMU process. The reply may be lost with the process: Errc::closed counts as success.
Task<Result<void>> quit(Client& client);
Task<Result<void>> system_powerdown(Client& client);

/// query-migrate: "none", "setup", "active", "colo", "completed", "failed", "cancelled", …
struct MigrationStatus {
  std::string status;       ///< "none" if QEMU reports none
  std::string description;  ///< QEMU's error-desc, empty if none
  std::uint64_t ram_transferred = 0, ram_remaining = 0, ram_total = 0;  ///< bytes
};
Task<Result<MigrationStatus>> query_migrate(Client& client);

Task<Result<void>> set_capabilities(Client& client,
                                    const std::vector<std::pair<std::string, bool>>& capabilities);

struct MigrationParameters {
  std::optional<std::uint32_t> checkpoint_delay_ms;  ///< x-checkpoint-delay; setting it asks for a checkpoint
  std::optional<std::uint64_t> max_bandwidth;        ///< bytes a second
  std::optional<std::uint32_t> announce_rounds;      ///< how often a guest announces itself after a load
};
Task<Result<void>> set_parameters(Client& client, MigrationParameters parameters);

/// migrate to `uri` ("unix:…", "fd:NAME").
Task<Result<void>> migrate(Client& client, const std::string& uri);
Task<Result<void>> migrate_incoming(Client& client, const std::string& uri);
Task<Result<void>> migrate_cancel(Client& client);
/// x-colo-lost-heartbeat: leave COLO and run on alone (both on a primary and on a secondary).
Task<Result<void>> colo_lost_heartbeat(Client& client);

/// getfd: hands `fd` to QEMU under `name`; the caller keeps its own copy.
Task<Result<void>> getfd(Client& client, const std::string& name, int fd);
Task<Result<void>> closefd(Client& client, const std::string& name);

/// chardev-add of a socket chardev over a descriptor that getfd has named.
Task<Result<void>> add_fd_chardev(Client& client, const std::string& id, const std::string& fd_name);
/// chardev-add of a client socket chardev that connects to the unix socket at `path`.
Task<Result<void>> add_unix_chardev(Client& client, const std::string& id, const std::string& path);
Task<Result<void>> remove_chardev(Client& client, const std::string& id);
/// The ids of all chardevs.
Task<Result<std::vector<std::string>>> query_chardevs(Client& client);

/// Which way the packets of a netdev's queue go: tx from the host to the guest, rx from the guest out.
enum class FilterQueue { tx, rx };

/// Among the filters of a netdev that are there already. Packets for the guest meet the head first.
enum class FilterPosition { head, tail };

Task<Result<void>> add_filter_mirror(Client& client, const std::string& id, const std::string& netdev,
                                     FilterQueue queue, const std::string& out_chardev,
                                     FilterPosition position = FilterPosition::tail);
/// A redirector takes packets out of the queue (`out_chardev`) or puts packets into it (`in_chardev`);
/// name one of the two.
Task<Result<void>> add_filter_redirector(Client& client, const std::string& id,
                                         const std::string& netdev, FilterQueue queue,
                                         const std::string& in_chardev,
                                         const std::string& out_chardev);
/// Switches a filter on; QEMU switches all of a VM's filters off when it leaves COLO.
Task<Result<void>> switch_filter_on(Client& client, const std::string& id);
Task<Result<void>> delete_object(Client& client, const std::string& id);
/// The ids of the user-created objects under /objects.
Task<Result<std::vector<std::string>>> list_objects(Client& client);

/// announce-self: gratuitous ARP/RARP from every NIC of the guest.
struct Announce {
  std::uint32_t initial_ms = 20, max_ms = 100, rounds = 5, step_ms = 20;
};
Task<Result<void>> announce_self(Client& client, Announce announce = {});

}  // namespace tandem::qmp
