// The payload of the packet lane's frames: be32 index of the NIC, then whole frames in the framing
// of QEMU's filter chardevs.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

#include "base/error.hpp"
#include "proxy/chardev_framing.hpp"

namespace tandem::session {

struct PacketPayload {
  std::size_t nic;
  proxy::FrameSpan frames;  ///< lies in the payload that was decoded
};

/// Errc::protocol for a NIC that the VM does not have, and for anything but whole frames.
Result<PacketPayload> decode_packets(std::string_view payload, std::size_t nics);

/// Calls `post` with as many payloads as the frames need, each no longer than a packet lane's frame
/// may be. Stops at the first error.
Result<void> encode_packets(std::size_t nic, std::span<const std::byte> frames,
                            const std::function<Result<void>(std::string_view payload)>& post);

}  // namespace tandem::session
