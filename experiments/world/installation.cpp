#include "experiments/world/installation.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <iostream>
#include <vector>

#include "base/unique_fd.hpp"
#include "experiments/world/process.hpp"

namespace tandem::world {
namespace {

namespace fs = std::filesystem;

fs::path first_existing(const std::vector<fs::path>& candidates) {
  std::error_code ignored;
  for (const auto& candidate : candidates)
    if (fs::exists(candidate, ignored)) return fs::weakly_canonical(candidate, ignored);
  return candidates.front();
}

Result<void> require(const fs::path& file, const std::string& what, const std::string& advice) {
  if (::access(file.c_str(), R_OK) == 0) return {};
  return Error{Errc::not_found, "there is no " + what + " at " + file.string() + ": " + advice};
}

}  // namespace

// A build folder is build/NAME/bin, with build/guest beside it.
void Installation::set_defaults() {
  std::error_code ignored;
  const fs::path bin = fs::read_symlink("/proc/self/exe", ignored).parent_path();
  const fs::path prefix = bin.parent_path();
  if (tandemd.empty()) tandemd = first_existing({bin / "tandemd", prefix / "sbin/tandemd"});
  if (shim.empty()) {
    const char* name = "libtandem-tcg-shim.so";
    shim = first_existing({prefix / "lib" / name, bin / name, prefix / "lib/tandem" / name,
                           prefix / "lib/x86_64-linux-gnu/tandem" / name});
  }
  if (guest_dir.empty())
    guest_dir = first_existing(
        {prefix.parent_path() / "guest", prefix / "guest", prefix / "share/tandem/guest"});
  // Daemons and QEMUs are started in folders of their own.
  for (auto* path : {&tandemd, &shim, &guest_dir}) {
    if (!path->empty()) *path = fs::absolute(*path, ignored);
  }
}

Result<void> Installation::check() const {
  const std::string guest = "scripts/guest-image makes the guest, or give --guest-dir";
  if (auto found = require(tandemd, "tandemd", "build it, or give --tandemd"); !found) return found;
  if (auto found = require(kernel(), "guest kernel", guest); !found) return found;
  if (auto found = require(initrd(), "guest image", guest); !found) return found;
  if (auto found = require(qemu, "QEMU", "install qemu-system-x86, or give --qemu"); !found)
    return found;
  if (!find_program("ip") || !find_program("tc"))
    return Error{Errc::not_found, "the programs ip and tc are missing: install iproute2"};
  const UniqueFd tun(::open("/dev/net/tun", O_RDWR | O_CLOEXEC));
  if (!tun)
    return with_context(
        "the VM's network needs /dev/net/tun (run as root, or let this user open it)",
        system_error("open", errno));
  return {};
}

DaemonOptions Installation::daemon_options() const {
  DaemonOptions options;
  options.tandemd = tandemd;
  options.qemu = qemu;
  std::error_code ignored;
  if (fs::exists(shim, ignored)) options.tcg_shim = shim;
  return options;
}

fs::path Installation::kernel() const {
  return first_existing({guest_dir / "vmlinux", guest_dir / "vmlinuz"});
}

fs::path Installation::initrd() const {
  return guest_dir / "redis.cpio.gz";
}

std::string Installation::kernel_arguments() const {
  std::ifstream file(guest_dir / "cmdline.txt");
  std::string line;
  return std::getline(file, line) ? line : "console=ttyS0 quiet";
}

Result<void> write_json(const std::string& where, const nlohmann::json& json) {
  if (where == "-") {
    std::cout << json.dump(2) << std::endl;
    return {};
  }
  std::ofstream file(where);
  file << json.dump(2) << "\n";
  if (!file.flush()) return Error{Errc::io, "cannot write " + where};
  return {};
}

}  // namespace tandem::world
