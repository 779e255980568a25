// Remembers what a QEMU binary was found to be. A probe boots a guest, which takes seconds; a
// daemon that starts again has not got them.
#pragma once

#include <filesystem>
#include <optional>

#include "base/error.hpp"
#include "engine/hypervisor/local_hypervisor.hpp"

namespace tandem::daemon {

class ProbeCache {
 public:
  explicit ProbeCache(std::filesystem::path file) : file_(std::move(file)) {}

  /// What was saved for the same binary (by path, size and time) and the same settings; nothing if
  /// there is none, or the file is not one that this version writes.
  [[nodiscard]] std::optional<hypervisor::QemuProbe> load(
      const hypervisor::QemuConfig& config) const;
  Result<void> save(const hypervisor::QemuConfig& config, const hypervisor::QemuProbe& probe) const;

 private:
  std::filesystem::path file_;
};

}  // namespace tandem::daemon
