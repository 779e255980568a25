#include "experiments/world/daemon_config.hpp"

#include <array>
#include <cstdio>
#include <sstream>

namespace tandem::world {
namespace {

std::string toml_list(const std::vector<std::string>& items) {
  std::string text = "[";
  for (const auto& item : items) {
    if (text.size() > 1) text += ", ";
    text += toml_string(item);
  }
  return text + "]";
}

void write_vm(std::ostream& out, const hypervisor::VmDefinition& vm) {
  out << "\n[[vm]]\n"
      << "name = " << toml_string(vm.name) << "\n"
      << "memory_mib = " << vm.memory_mib << "\n"
      << "vcpus = " << vm.vcpus << "\n";
  if (vm.machine != hypervisor::VmDefinition{}.machine)
    out << "machine = " << toml_string(vm.machine) << "\n";
  out << "kernel = " << toml_string(vm.kernel) << "\n"
      << "initrd = " << toml_string(vm.initrd) << "\n"
      << "cmdline = " << toml_string(vm.cmdline) << "\n"
      << "autostart = " << (vm.autostart ? "true" : "false") << "\n";
  if (!vm.extra_args.empty()) out << "extra_args = " << toml_list(vm.extra_args) << "\n";
  for (const auto& nic : vm.nics) {
    out << "[[vm.nic]]\n"
        << "mac = " << toml_string(nic.mac) << "\n"
        << "tap = " << toml_string(nic.tap) << "\n"
        << "bridge = " << toml_string(nic.bridge) << "\n";
  }
}

}  // namespace

std::string toml_string(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (byte < 0x20 || byte == 0x7f) {
      std::array<char, 8> escaped{};
      std::snprintf(escaped.data(), escaped.size(), "\\u%04X", static_cast<unsigned>(byte));
      quoted += escaped.data();
    } else {
      quoted += c;
    }
  }
  return quoted + "\"";
}

std::string daemon_config(const DaemonOptions& options, const DaemonPlace& place) {
  std::ostringstream out;
  out << "[host]\n"
      << "name = " << toml_string(place.host) << "\n"
      << "state_dir = " << toml_string(place.state_dir) << "\n"
      << "run_dir = " << toml_string(place.run_dir) << "\n"
      << "\n[api]\n"
      << "socket = " << toml_string(place.api_socket) << "\n"
      << "\n[replication]\n"
      << "listen = " << toml_string(place.listen) << "\n"
      << "heartbeat_ms = " << options.heartbeat.count() << "\n"
      << "heartbeat_timeout_ms = " << options.heartbeat_timeout.count() << "\n"
      << "checkpoint_period_ms = " << options.checkpoint_period.count() << "\n"
      << "\n[arbiter]\n"
      << "kind = \"local\"\n"
      << "directory = " << toml_string(place.arbiter_dir) << "\n"
      << "\n[qemu]\n"
      << "binary = " << toml_string(options.qemu) << "\n"
      << "accel = " << toml_string(options.accel) << "\n"
      << "arguments = " << toml_list(options.qemu_arguments) << "\n"
      << "environment = " << toml_list(options.qemu_environment) << "\n";
  if (!options.tcg_shim.empty()) out << "tcg_shim = " << toml_string(options.tcg_shim) << "\n";
  out << "\n[watchdog]\n"
      << "hang_timeout_ms = " << options.hang_timeout.count() << "\n"
      << "\n[[peer]]\n"
      << "name = " << toml_string(place.peer) << "\n"
      << "address = " << toml_string(place.peer_address) << "\n";
  for (const auto& vm : options.vms) write_vm(out, vm);
  return out.str();
}

}  // namespace tandem::world
