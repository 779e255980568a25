// The opening of a lane, seen from the side that connects.
#pragma once

#include <chrono>
#include <string>

#include "engine/transport/lane.hpp"
#include "engine/wire/protocol.hpp"

namespace tandem::transport {

/// Says hello for a lane of `kind` and waits for the answer: the text that came with it.
/// Errc::refused with the peer's reason, ::timed_out for a peer that accepts connections and says
/// nothing, ::protocol for one that is no tandemd.
Task<Result<std::string>> say_hello(Lane& lane, wire::LaneKind kind, std::string json,
                                    std::chrono::milliseconds timeout);

}  // namespace tandem::transport
