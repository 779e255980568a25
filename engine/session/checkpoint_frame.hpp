// The receiving end of one checkpoint: its frame's payload and digest come in over a lane and are
// verified (rule R1). Knows no VM and no session, so that it can be driven byte by byte in tests.
#pragma once

#include <cstdint>
#include <functional>

#include "base/asio.hpp"
#include "base/error.hpp"
#include "engine/checkpoint/buffer.hpp"
#include "engine/transport/lane.hpp"
#include "engine/wire/protocol.hpp"

namespace tandem::session {

/// Receives what follows a checkpoint frame's header: `header.length` bytes into `buffer`, which is
/// empty and large enough, and the digest. Returns the number of pages in it. Success means that
/// the checkpoint is whole, that its digest is right, and that it is exactly one checkpoint of a
/// COLO stream; after an error the buffer's content is worth nothing. `heard` is called with each
/// piece that arrives.
Task<Result<std::uint64_t>> receive_checkpoint(transport::Lane& lane, wire::FrameHeader header,
                                               checkpoint::Buffer& buffer,
                                               std::function<void()> heard);

}  // namespace tandem::session
