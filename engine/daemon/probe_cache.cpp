#include "engine/daemon/probe_cache.hpp"

#include <nlohmann/json.hpp>

#include "base/file.hpp"

namespace tandem::daemon {
namespace {

/// Everything that a probe's result depends on.
std::string key_of(const hypervisor::QemuConfig& config) {
  std::error_code ec;
  const auto time = std::filesystem::last_write_time(config.binary, ec).time_since_epoch().count();
  const auto size = std::filesystem::file_size(config.binary, ec);
  nlohmann::json key{
      config.binary.string(), time, size, config.accel, config.tcg_shim.string(), config.arguments,
      config.environment};
  return key.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

std::optional<hypervisor::QemuProbe> ProbeCache::load(const hypervisor::QemuConfig& config) const {
  const auto text = read_file(file_);
  if (!text) return std::nullopt;
  const auto json = nlohmann::json::parse(*text, nullptr, false);
  try {
    if (json.at("key").get<std::string>() != key_of(config)) return std::nullopt;
    hypervisor::QemuProbe probe;
    probe.version = {json.at("major"), json.at("minor"), json.at("micro"), json.at("package")};
    probe.accelerator =
        json.at("kvm").get<bool>() ? hypervisor::Accelerator::kvm : hypervisor::Accelerator::tcg;
    probe.shim = json.at("shim");
    probe.accelerator_reason = json.at("reason");
    return probe;
  } catch (const nlohmann::json::exception&) {
    return std::nullopt;
  }
}

Result<void> ProbeCache::save(const hypervisor::QemuConfig& config,
                              const hypervisor::QemuProbe& probe) const {
  const nlohmann::json json{{"key", key_of(config)},
                            {"major", probe.version.major},
                            {"minor", probe.version.minor},
                            {"micro", probe.version.micro},
                            {"package", probe.version.package},
                            {"kvm", probe.accelerator == hypervisor::Accelerator::kvm},
                            {"shim", probe.shim},
                            {"reason", probe.accelerator_reason}};
  return replace_file(file_, json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace),
                      false);
}

}  // namespace tandem::daemon
