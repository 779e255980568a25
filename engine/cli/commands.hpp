// The commands of `tandem` that ask a running daemon. Each returns the program's exit status and
// has written its answer, or its one line of error.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "base/error.hpp"

namespace tandem::cli {

struct Connection {
  std::filesystem::path socket;
  bool json = false;
};

/// An error of the API's client, with what to do about it: which socket was asked, how to start a
/// daemon, who may ask it.
Error explain(const Error& error, const std::filesystem::path& socket);

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
/// `mode`: "periodic" or "colo". Returns when the pair runs in it.
int set_mode(const Connection& connection, const std::string& vm, const std::string& mode);
/// On a terminal it shows how far the synchronisation is.
int protect_vm(const Connection& connection, const std::string& vm, const std::string& peer,
               const std::string& policy);

}  // namespace tandem::cli
