// The checksum of a checkpoint on the wire: XXH3, 128 bits, in canonical (big-endian) order.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <span>

struct XXH3_state_s;

namespace tandem::checkpoint {

using Digest = std::array<std::byte, 16>;

/// A digest over pieces, in order.
class Digester {
 public:
  Digester();
  void update(std::span<const std::byte> bytes);
  [[nodiscard]] Digest finish() const;

 private:
  struct Free {
    void operator()(XXH3_state_s* state) const;
  };
  std::unique_ptr<XXH3_state_s, Free> state_;
};

}  // namespace tandem::checkpoint
