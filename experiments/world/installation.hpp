// Where the programs and the guest image of an experiment lie, and whether this machine can run it.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "base/error.hpp"
#include "experiments/world/daemon_config.hpp"

namespace tandem::world {

struct Installation {
  std::filesystem::path tandemd;    ///< the daemon to run
  std::filesystem::path shim;       ///< the library that mends QEMU's TCG; may be missing
  std::filesystem::path guest_dir;  ///< holds vmlinux, redis.cpio.gz and cmdline.txt
  std::filesystem::path qemu = "/usr/bin/qemu-system-x86_64";

  /// Fills in what is empty: from the build folder or the installation that this program lies in.
  void set_defaults();
  /// What this machine lacks, with advice; checks files, iproute2 and /dev/net/tun.
  [[nodiscard]] Result<void> check() const;

  /// Daemons that run these programs.
  [[nodiscard]] DaemonOptions daemon_options() const;
  [[nodiscard]] std::filesystem::path kernel() const;
  [[nodiscard]] std::filesystem::path initrd() const;
  /// Those that the image brings, which make its kernel boot fast.
  [[nodiscard]] std::string kernel_arguments() const;
};

/// Writes to a file, or to standard output for "-".
Result<void> write_json(const std::string& where, const nlohmann::json& json);

}  // namespace tandem::world
