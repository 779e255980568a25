// A pair of connected lanes in memory, for tests: what one sends, the other receives. Both ends
// must be used on one thread.
#pragma once

#include <cstddef>
#include <memory>
#include <utility>

#include "engine/transport/lane.hpp"

namespace tandem::transport {

/// Each direction holds at most `capacity` bytes; a sender waits for room. After `cut_after` bytes
/// the first end's sends are lost and both ends see the lane closed, as if its host had died.
std::pair<std::unique_ptr<Lane>, std::unique_ptr<Lane>> make_memory_lanes(
    const asio::any_io_executor& executor, std::size_t capacity = 1u << 20,
    std::size_t cut_after = SIZE_MAX);

}  // namespace tandem::transport
