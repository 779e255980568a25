// The connections over which two stock QEMUs talk to each other in the pause benchmark.
#pragma once

#include <cstdint>
#include <string>

#include "base/error.hpp"
#include "base/unique_fd.hpp"
#include "experiments/world/net_namespace.hpp"

namespace tandem::bench {

struct StreamEnds {
  UniqueFd primary, secondary;
};

/// A TCP connection from one namespace to the IPv4 address `address` of the other, without Nagle's
/// algorithm: QEMU's own "tcp:" leaves it on, which costs it 40 ms a checkpoint. This is the best
/// connection that stock QEMU can be given.
Result<StreamEnds> connect_over_tcp(const world::NetNamespace& primary,
                                    const world::NetNamespace& secondary,
                                    const std::string& address);

/// A unix socket pair: no network at all.
Result<StreamEnds> connect_locally();

/// Bytes that the other end of a TCP connection has acknowledged.
Result<std::uint64_t> acknowledged_bytes(const UniqueFd& tcp);

}  // namespace tandem::bench
