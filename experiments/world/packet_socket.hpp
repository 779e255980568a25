// Packet sockets: whole frames as they pass a link.
#pragma once

#include <string>

#include "base/error.hpp"
#include "base/unique_fd.hpp"
#include "experiments/world/net_namespace.hpp"

namespace tandem::world {

/// A non-blocking packet socket that sees every frame on `link`, and sends whole frames through it.
Result<UniqueFd> listen_on_link(const NetNamespace& net, const std::string& link);

}  // namespace tandem::world
