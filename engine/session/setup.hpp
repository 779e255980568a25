// The first message of a pair: what the secondary's daemon must know to start its VM. JSON on the
// control lane, versioned with the wire protocol.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "engine/hypervisor/vm.hpp"
#include "engine/session/session.hpp"

namespace tandem::session {

struct Setup {
  hypervisor::VmDefinition definition;
  PairSettings settings;     ///< as the primary sees them: host and peer are the primary's
  std::string qemu_version;  ///< of the primary; the secondary's must be the same
  std::string accelerator;   ///< "kvm" or "tcg", of the primary; the secondary's must be the same
  std::string arbiter;       ///< kind and place; both sides must ask the same one
};

std::string encode_setup(const Setup& setup);
/// Errc::invalid_input names the field.
Result<Setup> decode_setup(std::string_view json);

}  // namespace tandem::session
