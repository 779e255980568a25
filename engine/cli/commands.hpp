// The commands of `tandem` that ask a running daemon. Each returns the program's exit status and
// has written its answer, or its one line of error.
#pragma once

#include <cstdint>
#include <string>

#include "engine/cli/connection.hpp"
#include "engine/cli/policy_command.hpp"

namespace tandem::cli {

/// `vm` empty: all of them.
int show_status(const Connection& connection, const std::string& vm);
/// Until interrupted. Fails only if the first answer does not come.
int watch_status(const Connection& connection, const std::string& vm);

int show_events(const Connection& connection, std::uint64_t after);
/// Until interrupted, or until the daemon has been away for a minute.
int follow_events(const Connection& connection, std::uint64_t after);

int list_vms(const Connection& connection);
/// `action`: "start", "stop", "unprotect", "failover".
int change_vm(const Connection& connection, const std::string& vm, const std::string& action);
/// What `choice` leaves out is as this host's configuration says. On a terminal it shows how far
/// the synchronisation is.
int protect_vm(const Connection& connection, const std::string& vm, const std::string& peer,
               const PolicyChange& choice);

}  // namespace tandem::cli
