// What a virtual machine is, as Tandem's own hypervisor driver defines it.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/error.hpp"

namespace tandem::hypervisor {

struct Nic {
  std::string id = "n0";  ///< QEMU's netdev id
  std::string mac;        ///< "52:54:00:12:34:56"
  std::string tap;        ///< name of the tap device that is made for it, at most 15 characters
  std::string bridge;     ///< bridge on the host that the tap joins; empty: none
  friend bool operator==(const Nic&, const Nic&) = default;
};

/// A VM without host state: the secondary's host starts its QEMU from the same definition.
struct VmDefinition {
  std::string name;  ///< [A-Za-z0-9][A-Za-z0-9._-]{0,62}
  std::uint32_t memory_mib = 256;
  std::uint32_t vcpus = 1;
  std::string machine = "pc";
  std::string kernel, initrd, cmdline;  ///< direct kernel boot; paths on the host
  std::vector<Nic> nics;
  std::vector<std::string> extra_args;  ///< more QEMU arguments, as they are
  bool autostart = false;
  friend bool operator==(const VmDefinition&, const VmDefinition&) = default;
};

/// Errc::invalid_input names the field and what was expected.
Result<void> validate(const VmDefinition& definition);

nlohmann::json to_json(const VmDefinition& definition);
/// Refuses unknown keys and wrong types, and validates.
Result<VmDefinition> vm_from_json(const nlohmann::json& json);

}  // namespace tandem::hypervisor
