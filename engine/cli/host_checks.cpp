#include "engine/cli/host_checks.hpp"

#include <fcntl.h>
#include <net/if.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <charconv>
#include <map>
#include <set>

#include "base/file.hpp"
#include "base/unique_fd.hpp"
#include "engine/cli/format.hpp"
#include "engine/cli/run_task.hpp"
#include "engine/hypervisor/tap.hpp"
#include "engine/session/session.hpp"

namespace tandem::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t mib = 1u << 20;
constexpr std::uint64_t qemu_overhead = 64 * mib;
constexpr std::uint64_t free_bytes_wanted = 64 * mib;
constexpr std::size_t socket_path_max = 107;
constexpr std::size_t processes_max = 100'000;

/// The folder itself, or the nearest one above it that exists.
fs::path nearest_existing(fs::path path) {
  std::error_code ignored;
  path = fs::absolute(path, ignored);
  while (!fs::exists(path, ignored) && path.has_parent_path() && path != path.parent_path()) {
    path = path.parent_path();
  }
  return path;
}

/// Makes and removes a file: the one test that permissions, quotas and a full disk all fail.
Result<void> try_writing(const fs::path& directory) {
  auto name = (directory / ".tandem-doctor-XXXXXX").string();
  const UniqueFd fd(::mkostemp(name.data(), O_CLOEXEC));
  if (!fd) return system_error("cannot make a file in " + directory.string(), errno);
  ::unlink(name.c_str());
  const std::string block(4096, '\0');
  if (::write(fd.get(), block.data(), block.size()) != static_cast<ssize_t>(block.size())) {
    return system_error("cannot write to a file in " + directory.string(), errno);
  }
  return {};
}

Check check_directory(const std::string& check, const std::string& key, const fs::path& path) {
  std::error_code ec;
  const auto existing = nearest_existing(path);
  if (!fs::is_directory(existing, ec)) {
    return {check, Verdict::error, existing.string() + " is not a folder",
            "remove it, or choose another " + key};
  }
  const bool exists = fs::exists(path, ec);
  if (exists) {
    if (const auto written = try_writing(path); !written) {
      return {check, Verdict::error, written.error().message,
              "let this user write to it, make room on its file system, or choose another " + key};
    }
  } else if (::faccessat(AT_FDCWD, existing.c_str(), W_OK | X_OK, AT_EACCESS) != 0) {
    return {check, Verdict::error,
            path.string() + " does not exist and cannot be made in " + existing.string(),
            "make it and let this user write to it, or choose another " + key};
  }
  struct statvfs space {};
  if (::statvfs(existing.c_str(), &space) == 0) {
    const auto left = static_cast<std::uint64_t>(space.f_bavail) * space.f_frsize;
    // A file system without blocks of its own, such as a tmpfs without a limit, is not full.
    if (space.f_blocks > 0 && left < free_bytes_wanted) {
      return {check, Verdict::warning,
              path.string() + ": only " + format_bytes(left) + " are free on its file system",
              "make room: logs and state files are kept there"};
    }
  }
  return {check, Verdict::ok, path.string() + (exists ? " can be written to" : " can be made"), {}};
}

bool is_running(const DaemonStatus& status, const std::string& vm_name) {
  if (!status || !status->contains("vms") || !(*status)["vms"].is_array()) return false;
  return std::ranges::any_of((*status)["vms"], [&](const nlohmann::json& vm) {
    return vm.is_object() && vm.value("name", nlohmann::json()) == vm_name &&
           vm.value("qemu_pid", nlohmann::json()).is_number();
  });
}

Check check_bridge(const std::string& bridge) {
  const auto check = "bridge:" + bridge;
  const auto make_it = "make it: ip link add " + bridge + " type bridge && ip link set " + bridge +
                       " up, and join the uplink to it";
  if (::if_nametoindex(bridge.c_str()) == 0) {
    return {check, Verdict::error, "there is no network interface " + bridge, make_it};
  }
  std::error_code ec;
  const fs::path folder = fs::path("/sys/class/net") / bridge;
  // In a container /sys may show another network namespace; then nothing is known.
  if (fs::exists(folder, ec) && !fs::exists(folder / "bridge", ec)) {
    return {check, Verdict::error, bridge + " is a network interface, but not a bridge",
            "name a bridge in vm.nic.bridge, or " + make_it};
  }
  return {check, Verdict::ok, bridge + " exists", {}};
}

Check check_tap(bool needed) {
  const auto name = "tnddoc" + std::to_string(::getpid() % 1'000'000);
  const auto made = hypervisor::make_tap(name);
  if (made) return {"tap", Verdict::ok, "tap devices can be made", {}};
  const auto verdict = needed ? Verdict::error : Verdict::warning;
  const std::string advice =
      made.error().code == Errc::permission
          ? "run tandemd as root or with CAP_NET_ADMIN, and `tandem doctor` as the same user"
          : "load the kernel module (modprobe tun); in a container, pass /dev/net/tun to it";
  return {"tap", verdict, made.error().message, advice};
}

Check check_readable(const std::string& check, const std::string& key, const std::string& path) {
  if (path.empty()) {
    return {check, Verdict::skipped, "no " + key + " is configured", {}};
  }
  std::error_code ec;
  if (fs::is_directory(path, ec)) {
    return {check, Verdict::error, path + " is a folder", "name a file in vm." + key};
  }
  if (::faccessat(AT_FDCWD, path.c_str(), R_OK, AT_EACCESS) != 0) {
    return {check, Verdict::error, system_error(path, errno).message,
            "correct vm." + key +
                ", or let the user that runs tandemd read the file; the peer "
                "needs the same file at the same path"};
  }
  if (fs::file_size(path, ec) == 0) {
    return {check, Verdict::error, path + " is empty", "put the " + key + " there"};
  }
  return {check, Verdict::ok, path, {}};
}

std::vector<std::string> split_arguments(const std::string& command_line) {
  std::vector<std::string> arguments;
  std::size_t at = 0;
  while (at < command_line.size()) {
    const auto end = std::min(command_line.find('\0', at), command_line.size());
    arguments.push_back(command_line.substr(at, end - at));
    at = end + 1;
  }
  return arguments;
}

/// The state folder of a running tandemd, as that process sees it.
std::optional<fs::path> state_dir_of(const fs::path& process) {
  const auto command_line = read_file(process / "cmdline");
  if (!command_line) return std::nullopt;
  const auto file = config_of_guardian(split_arguments(*command_line));
  if (!file) return std::nullopt;
  std::error_code ec;
  auto path = fs::path(*file);
  if (path.is_relative()) {
    path = fs::read_symlink(process / "cwd", ec) / path;
    if (ec) return std::nullopt;
  }
  const auto config = daemon::load_config(process / "root" / path.relative_path());
  if (!config) return std::nullopt;
  return fs::weakly_canonical(config->state_dir, ec);
}

Check accelerator_check(const hypervisor::QemuConfig& config, const hypervisor::QemuProbe& probe) {
  const auto detail = std::string(to_string(probe.accelerator)) + ": " + probe.accelerator_reason;
  if (probe.accelerator == hypervisor::Accelerator::tcg && config.accel == "auto") {
    return {
        "accelerator", Verdict::warning, "VMs run under emulation (" + detail + ")",
        "for the speed of hardware, enable virtualization in the firmware, modprobe kvm, and let "
        "this user open /dev/kvm; to choose emulation, set qemu.accel = \"tcg\""};
  }
  return {"accelerator", Verdict::ok, detail, {}};
}

Check shim_check(const hypervisor::QemuConfig& config, const hypervisor::QemuProbe& probe) {
  if (!probe.shim) {
    return {"tcg-shim", Verdict::skipped, "not needed with this accelerator and version", {}};
  }
  const auto need = "QEMU " + to_string(probe.version) + " under emulation needs Tandem's shim";
  const std::string advice =
      "set qemu.tcg_shim to the installed libtandem-tcg-shim.so; without it checkpoints hang";
  if (config.tcg_shim.empty()) {
    return {"tcg-shim", Verdict::error, need + ", and none is configured", advice};
  }
  if (::faccessat(AT_FDCWD, config.tcg_shim.c_str(), R_OK, AT_EACCESS) != 0) {
    return {"tcg-shim", Verdict::error,
            need + ": " + system_error(config.tcg_shim.string(), errno).message, advice};
  }
  return {"tcg-shim", Verdict::ok, config.tcg_shim.string(), {}};
}

}  // namespace

Checks check_qemu(const hypervisor::QemuConfig& config,
                  std::optional<hypervisor::QemuProbe>& probed) {
  const auto skip = [](const char* check) {
    return Check{check, Verdict::skipped, "QEMU could not be examined", {}};
  };
  if (::faccessat(AT_FDCWD, config.binary.c_str(), X_OK, AT_EACCESS) != 0) {
    return {{"qemu", Verdict::error, system_error(config.binary.string(), errno).message,
             "install QEMU (Debian: apt-get install qemu-system-x86), or correct qemu.binary"},
            skip("accelerator"),
            skip("tcg-shim")};
  }
  const auto probe = run_task(hypervisor::probe(config));
  if (!probe) {
    // The version was fine if only KVM, which was asked for by name, is not there.
    if (probe.error().code == Errc::unavailable && config.accel == "kvm") {
      return {{"qemu", Verdict::ok, config.binary.string(), {}},
              {"accelerator", Verdict::error, probe.error().message,
               "enable virtualization in the firmware, modprobe kvm, and let this user open "
               "/dev/kvm; or set qemu.accel = \"auto\""},
              skip("tcg-shim")};
    }
    const std::string advice =
        probe.error().code == Errc::refused
            ? "install a version that works, or name another one in qemu.binary"
            : "see that this command works: " + config.binary.string() + " --version";
    return {{"qemu", Verdict::error, probe.error().message, advice},
            skip("accelerator"),
            skip("tcg-shim")};
  }
  probed = *probe;
  auto detail = config.binary.string() + ": " + to_string(probe->version);
  if (!probe->version.package.empty()) detail += " (" + probe->version.package + ")";
  return {{"qemu", Verdict::ok, std::move(detail), {}},
          accelerator_check(config, *probe),
          shim_check(config, *probe)};
}

Checks check_names(const daemon::Config& config) {
  Checks checks;
  std::set<std::string> hosts{config.host};
  for (const auto& peer : config.peers) {
    if (hosts.insert(peer.name).second) continue;
    checks.push_back({"names", Verdict::error, "two hosts are called " + peer.name,
                      "give every host its own name in host.name and peer.name"});
  }
  std::map<std::string, std::string> owner_of;
  const auto claim = [&](const std::string& what, const std::string& vm) {
    const auto [place, is_new] = owner_of.emplace(what, vm);
    if (is_new) return;
    checks.push_back({"names", Verdict::error, what + " is used by " + place->second + " and " + vm,
                      "give every NIC its own tap and MAC address"});
  };
  for (const auto& vm : config.vms) {
    for (const auto& nic : vm.nics) {
      auto mac = nic.mac;
      std::ranges::transform(mac, mac.begin(),
                             [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
      claim("MAC address " + mac, vm.name);
      claim("tap " + nic.tap, vm.name);
    }
  }
  if (checks.empty()) {
    checks.push_back({"names", Verdict::ok, "hosts, VMs, taps and MAC addresses are unique", {}});
  }
  return checks;
}

Checks check_network(const daemon::Config& config, const DaemonStatus& status) {
  Checks checks;
  std::set<std::string> bridges;
  bool any_nic = false;
  for (const auto& vm : config.vms) {
    for (const auto& nic : vm.nics) {
      any_nic = true;
      if (!nic.bridge.empty()) bridges.insert(nic.bridge);
      if (!is_running(status, vm.name) && ::if_nametoindex(nic.tap.c_str()) != 0) {
        checks.push_back({"tap:" + nic.tap, Verdict::warning,
                          nic.tap + " exists, although " + vm.name + " is not known to run",
                          "see what uses it (ip -d link show " + nic.tap +
                              "), or choose another name in vm.nic.tap"});
      }
    }
  }
  checks.insert(checks.begin(), check_tap(any_nic));
  for (const auto& bridge : bridges) checks.push_back(check_bridge(bridge));
  if (bridges.empty()) {
    checks.push_back({"bridge", Verdict::skipped, "no VM names a bridge", {}});
  }
  return checks;
}

Checks check_vm_files(const daemon::Config& config) {
  Checks checks;
  for (const auto& vm : config.vms) {
    checks.push_back(check_readable("kernel:" + vm.name, "kernel", vm.kernel));
    checks.push_back(check_readable("initrd:" + vm.name, "initrd", vm.initrd));
  }
  return checks;
}

Result<MemoryFacts> parse_meminfo(std::string_view text) {
  const auto value = [&](std::string_view key) -> Result<std::uint64_t> {
    for (std::size_t at = 0; at < text.size();) {
      const auto end = std::min(text.find('\n', at), text.size());
      auto line = text.substr(at, end - at);
      at = end + 1;
      if (!line.starts_with(key) || line.substr(key.size(), 1) != ":") continue;
      line.remove_prefix(key.size() + 1);
      line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
      std::uint64_t kib = 0;
      const auto [rest, ec] = std::from_chars(line.data(), line.data() + line.size(), kib);
      if (ec == std::errc{} && kib < (1ull << 50)) return kib * 1024;
    }
    return Error{Errc::protocol, "/proc/meminfo has no " + std::string(key)};
  };
  MemoryFacts facts;
  const auto available = value("MemAvailable");
  const auto limit = value("CommitLimit");
  const auto committed = value("Committed_AS");
  for (const auto* found : {&available, &limit, &committed}) {
    if (!*found) return found->error();
  }
  facts.available = *available;
  facts.commit_limit = *limit;
  facts.committed = *committed;
  return facts;
}

MemoryNeed memory_need(const daemon::Config& config, const DaemonStatus& status) {
  MemoryNeed need;
  for (const auto& vm : config.vms) {
    if (!is_running(status, vm.name)) need.guests += vm.memory_mib * mib + qemu_overhead;
    need.checkpoints += 3 * session::checkpoint_bytes_max(vm.memory_mib);
  }
  return need;
}

Checks judge_memory(const MemoryNeed& need, const MemoryFacts& facts) {
  const auto wanted = "the VMs to be started need " + format_bytes(need.guests) +
                      ", checkpoints at worst " + format_bytes(need.checkpoints) + "; ";
  Checks checks;
  const auto found = wanted + format_bytes(facts.available) + " are available";
  if (need.guests > facts.available) {
    checks.push_back(
        {"memory", Verdict::error, found, "lower vm.memory_mib, run fewer VMs, or add memory"});
  } else if (need.guests + need.checkpoints > facts.available) {
    checks.push_back({"memory", Verdict::warning, found,
                      "VMs that rewrite all of their memory between two checkpoints will not fit; "
                      "those that rewrite little will"});
  } else {
    checks.push_back({"memory", Verdict::ok, found, {}});
  }
  // Mode 2 refuses what the other modes would only be short of later.
  constexpr int strict = 2;
  if (facts.overcommit != strict) {
    checks.push_back({"overcommit", Verdict::ok, "the kernel lets programs reserve memory", {}});
    return checks;
  }
  const auto left = facts.commit_limit > facts.committed ? facts.commit_limit - facts.committed : 0;
  const bool enough = need.guests + need.checkpoints <= left;
  checks.push_back(
      {"overcommit", enough ? Verdict::ok : Verdict::error,
       "vm.overcommit_memory is 2, and " + wanted + format_bytes(left) + " may still be reserved",
       enough ? "" : "raise vm.overcommit_ratio, or set vm.overcommit_memory = 0"});
  return checks;
}

Checks check_memory(const daemon::Config& config, const DaemonStatus& status) {
  const auto text = read_file("/proc/meminfo");
  auto facts = text ? parse_meminfo(*text) : Result<MemoryFacts>(text.error());
  if (!facts) return {{"memory", Verdict::skipped, facts.error().message, {}}};
  if (const auto mode = read_file("/proc/sys/vm/overcommit_memory"); mode && !mode->empty()) {
    facts->overcommit = mode->front() - '0';
  }
  auto checks = judge_memory(memory_need(config, status), *facts);
  rlimit space{};
  if (::getrlimit(RLIMIT_AS, &space) == 0 && space.rlim_cur != RLIM_INFINITY) {
    checks.push_back({"address-space", Verdict::warning,
                      "a process may have " + format_bytes(space.rlim_cur) +
                          " of address space here (RLIMIT_AS)",
                      "start tandemd without that limit (ulimit -v unlimited; systemd: "
                      "LimitAS=infinity)"});
  }
  return checks;
}

Checks check_directories(const daemon::Config& config) {
  return {check_directory("state-dir", "host.state_dir", config.state_dir),
          check_directory("run-dir", "host.run_dir", config.run_dir),
          check_directory("arbiter-dir", "arbiter.directory", config.arbiter_directory),
          check_directory("api-dir", "api.socket", fs::absolute(config.api_socket).parent_path())};
}

Checks check_sockets(const daemon::Config& config, const fs::path& asked) {
  Checks checks;
  auto longest = config.api_socket;
  std::string key = "api.socket";
  for (const auto& vm : config.vms) {
    const auto monitor = config.run_dir / vm.name / "qmp.sock";
    if (monitor.native().size() <= longest.native().size()) continue;
    longest = monitor;
    key = "host.run_dir";
  }
  const auto length = longest.native().size();
  checks.push_back({"socket-path", length > socket_path_max ? Verdict::error : Verdict::ok,
                    longest.string() + " has " + std::to_string(length) + " of at most " +
                        std::to_string(socket_path_max) + " bytes",
                    length > socket_path_max ? "choose a shorter " + key : ""});
  std::error_code ec;
  if (fs::weakly_canonical(asked, ec) != fs::weakly_canonical(config.api_socket, ec)) {
    checks.push_back({"api-socket", Verdict::warning,
                      "tandem asks at " + asked.string() +
                          ", but this configuration's tandemd "
                          "listens at " +
                          config.api_socket.string(),
                      "set TANDEM_SOCKET=" + config.api_socket.string() + ", or give --socket"});
  } else {
    checks.push_back({"api-socket", Verdict::ok, config.api_socket.string(), {}});
  }
  return checks;
}

std::optional<std::string> config_of_guardian(const std::vector<std::string>& arguments) {
  if (arguments.empty() || fs::path(arguments.front()).filename() != "tandemd") return std::nullopt;
  std::string config = "/etc/tandem/tandemd.toml";
  const std::string prefix = "--config=";
  for (std::size_t i = 1; i < arguments.size(); ++i) {
    if (arguments[i].starts_with("--life-sign")) return std::nullopt;
    if (arguments[i] == "--config" && i + 1 < arguments.size()) config = arguments[++i];
    if (arguments[i].starts_with(prefix)) config = arguments[i].substr(prefix.size());
  }
  return config;
}

Checks check_other_daemons(const daemon::Config& config, const DaemonStatus& status) {
  std::error_code ec;
  const auto own_state = fs::weakly_canonical(config.state_dir, ec);
  std::int64_t own_pid = 0;
  if (status && status->contains("guardian_pid") && (*status)["guardian_pid"].is_number_integer()) {
    own_pid = (*status)["guardian_pid"];
  }
  std::vector<std::string> others;
  std::size_t seen = 0;
  for (const auto& entry : fs::directory_iterator("/proc", ec)) {
    const auto name = entry.path().filename().string();
    if (!std::ranges::all_of(name, [](char c) { return c >= '0' && c <= '9'; })) continue;
    if (++seen > processes_max) break;
    if (name == std::to_string(own_pid) || state_dir_of(entry.path()) != own_state) continue;
    others.push_back(name);
  }
  if (others.empty()) {
    return {{"other-daemons", Verdict::ok, "no other tandemd uses " + own_state.string(), {}}};
  }
  std::string pids;
  for (const auto& pid : others) pids += (pids.empty() ? "" : ", ") + pid;
  return {{"other-daemons", Verdict::error,
           "another tandemd uses " + own_state.string() + ", too (pid " + pids + ")",
           "stop it (kill " + others.front() +
               "): two daemons would both rule the same VMs; or give "
               "every daemon its own host.state_dir"}};
}

}  // namespace tandem::cli
