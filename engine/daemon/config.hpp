// The configuration of one host's daemon, read from TOML. docs/man/tandemd.8 describes every key.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "controller/controller.hpp"
#include "engine/hypervisor/local_hypervisor.hpp"
#include "engine/hypervisor/vm.hpp"
#include "engine/transport/tcp.hpp"

namespace tandem::daemon {

struct Peer {
  std::string name;
  transport::Endpoint address;
};

struct Config {
  std::string host;
  std::filesystem::path state_dir = "/var/lib/tandem";
  std::filesystem::path run_dir = "/run/tandem";
  std::filesystem::path api_socket;  ///< default: run_dir/api.sock

  transport::Endpoint listen{"0.0.0.0", 7070};
  std::chrono::milliseconds heartbeat{100};
  std::chrono::milliseconds heartbeat_timeout{400};
  std::chrono::milliseconds colo_compare_timeout{250};

  controller::Policy policy = controller::Policy::periodic;  ///< where none is asked for
  controller::Parameters controller;

  std::optional<transport::Endpoint> web_listen{{"127.0.0.1", 7071}};  ///< null: nowhere
  std::vector<std::string> web_names;  ///< that browsers and Prometheus may call this host

  std::string arbiter_kind = "local";
  std::filesystem::path arbiter_directory;

  hypervisor::QemuConfig qemu;
  std::chrono::milliseconds hang_timeout{300};
  std::vector<Peer> peers;
  std::vector<hypervisor::VmDefinition> vms;
};

/// Every key is known, of its type and in its range, or it is an error that names the file, the
/// line, the key and what was expected.
Result<Config> parse_config(std::string_view toml, std::string_view file_name);
Result<Config> load_config(const std::filesystem::path& path);

/// VM, host and peer names: a letter or digit, then at most 62 letters, digits, '.', '_' or '-'.
bool is_valid_name(std::string_view name) noexcept;

}  // namespace tandem::daemon
