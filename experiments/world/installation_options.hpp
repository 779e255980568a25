// The options by which programs of the experiments are told where their parts are.
#pragma once

#include <CLI/CLI.hpp>

#include "experiments/world/installation.hpp"

namespace tandem::world {

/// Adds --guest-dir, --tandemd, --shim and --qemu. What is not given is for set_defaults().
inline void add_options(CLI::App& app, Installation& installation) {
  app.add_option("--guest-dir", installation.guest_dir, "folder with vmlinux and redis.cpio.gz");
  app.add_option("--tandemd", installation.tandemd, "the daemon to run");
  app.add_option("--shim", installation.shim,
                 "the library that mends QEMU's TCG before version 11");
  app.add_option("--qemu", installation.qemu, "the QEMU to run")->capture_default_str();
}

}  // namespace tandem::world
