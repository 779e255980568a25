// The configuration file of a tandemd in the little world.
#pragma once

#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

#include "engine/hypervisor/vm.hpp"

namespace tandem::world {

/// What an experiment chooses about a daemon; the world fills in names, addresses and folders.
struct DaemonOptions {
  std::filesystem::path tandemd;  ///< the program
  std::filesystem::path qemu = "/usr/bin/qemu-system-x86_64";
  std::string accel = "auto";
  std::vector<std::string> qemu_arguments;
  std::vector<std::string> qemu_environment;  ///< "NAME=value"
  std::filesystem::path tcg_shim;             ///< empty: none
  std::chrono::milliseconds heartbeat{100};
  std::chrono::milliseconds heartbeat_timeout{400};
  std::chrono::milliseconds checkpoint_period{250};
  std::chrono::milliseconds hang_timeout{300};
  std::vector<hypervisor::VmDefinition> vms;
  std::vector<std::string> environment;  ///< "NAME=value", for tandemd itself
};

/// Where a daemon stands in its world.
struct DaemonPlace {
  std::string host, peer;            ///< "alpha", "beta"
  std::string listen, peer_address;  ///< "10.77.0.1:7070"
  std::filesystem::path state_dir, run_dir, api_socket, arbiter_dir;
};

/// The configuration as TOML text.
std::string daemon_config(const DaemonOptions& options, const DaemonPlace& place);

/// A TOML basic string, quotes included, that stands for exactly `text`.
std::string toml_string(const std::string& text);

}  // namespace tandem::world
