// What the daemon must still know after it died: one small file a VM, replaced in one step.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "engine/hypervisor/local_hypervisor.hpp"
#include "engine/hypervisor/vm.hpp"
#include "proxy/translator.hpp"

namespace tandem::daemon {

enum class Role { none, primary, secondary, solo };
std::string_view to_string(Role role) noexcept;

struct VmState {
  hypervisor::VmDefinition definition;
  hypervisor::ProcessId process;
  Role role = Role::none;
  std::uint64_t generation = 0;
  std::string peer;
  /// Connections that a failover has left to be translated, by NIC.
  std::map<std::string, proxy::TranslationTable> translations{};
};

class StateStore {
 public:
  explicit StateStore(std::filesystem::path state_dir) : directory_(std::move(state_dir) / "vms") {}

  Result<void> prepare() const;
  Result<void> save(const VmState& state) const;
  Result<void> remove(const std::string& vm) const;
  /// All that can be read; a file that cannot is an error beside them, by name.
  std::vector<VmState> load_all(std::vector<Error>& errors) const;

 private:
  std::filesystem::path directory_;
};

}  // namespace tandem::daemon
