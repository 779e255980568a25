// Watches the switch's ports and remembers from which host a VM's frames came, and when.
//
// It is the independent proof that only one copy of a VM answers: it asks nobody, it looks at the
// cables.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/error.hpp"
#include "base/unique_fd.hpp"
#include "experiments/world/net_namespace.hpp"

namespace tandem::world {

using MacAddress = std::array<std::uint8_t, 6>;

/// "52:54:00:12:34:56"; nothing if it is not of that form.
std::optional<MacAddress> parse_mac(const std::string& text);

class FrameWitness {
 public:
  using Clock = std::chrono::steady_clock;

  /// What came from one port since the last mark().
  struct Sighting {
    std::uint64_t frames = 0;
    std::optional<Clock::time_point> first, last;
  };

  /// Listens on `ports` of the namespace for frames that come in with this source address.
  static Result<std::unique_ptr<FrameWitness>> start(const NetNamespace& net,
                                                     const std::vector<std::string>& ports,
                                                     const MacAddress& source);
  FrameWitness(const FrameWitness&) = delete;
  FrameWitness& operator=(const FrameWitness&) = delete;
  ~FrameWitness();

  /// Forgets what was seen before now.
  void mark();
  /// In the order of `ports`.
  [[nodiscard]] std::vector<Sighting> sightings() const;

 private:
  FrameWitness() = default;
  void watch();

  std::vector<UniqueFd> sockets_;
  UniqueFd stop_;
  mutable std::mutex mutex_;
  std::vector<Sighting> seen_;
  MacAddress source_{};
  std::thread thread_;
};

}  // namespace tandem::world
