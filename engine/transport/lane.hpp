// A lane: one reliable, ordered byte stream to the peer. Implementations: TCP, memory (tests).
//
// Nothing above this interface knows which one it has.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "base/asio.hpp"
#include "base/error.hpp"

namespace tandem::transport {

class Lane {
 public:
  virtual ~Lane() = default;

  /// Sends both pieces, in order and whole (`second` may be empty). The memory must stay as it is
  /// until the call returns. One sender at a time.
  virtual Task<Result<void>> send(std::span<const std::byte> first,
                                  std::span<const std::byte> second = {}) = 0;

  /// Fills `into`. Errc::closed if the peer closed first, ::io if the connection broke. One
  /// receiver at a time, beside a sender.
  virtual Task<Result<void>> receive(std::span<std::byte> into) = 0;

  /// Ends the lane now; calls under way return Errc::closed. Idempotent.
  virtual void close() noexcept = 0;
};

}  // namespace tandem::transport
