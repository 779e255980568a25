// The client's machine and its way to the clients' switch: short and generous, without offload, or
// long and lossy.
//
// The client has a namespace of its own. One that sits on the switch itself would be handed frames
// whose checksums nobody has ever completed, and would hide that they are wrong.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.hpp"
#include "experiments/world/delay_line.hpp"
#include "experiments/world/net_namespace.hpp"
#include "experiments/world/world.hpp"

namespace tandem::survival {

enum class PathKind {
  plain,        ///< a cable; frames may be large and their checksums left to nobody
  offload_off,  ///< every frame leaves its host complete, and the client checks it
  delay         ///< the same, through a line that delays and may lose frames
};
/// "plain", "offload-off", "delay".
std::string_view to_string(PathKind kind) noexcept;
std::optional<PathKind> path_kind_from_string(std::string_view name) noexcept;

struct PathOptions {
  PathKind kind = PathKind::plain;
  std::chrono::milliseconds round_trip{100};  ///< delay only: half of it each way
  double loss = 0;                            ///< delay only: of the frames, each way
  std::uint64_t seed = 1;                     ///< draws what is lost
};

class Path {
 public:
  static constexpr const char* kClientAddress = "10.88.0.2";

  static Result<std::unique_ptr<Path>> build(world::World& world, const PathOptions& options);

  [[nodiscard]] const world::NetNamespace& client() const noexcept { return client_; }
  /// Of the line; nothing where there is none.
  [[nodiscard]] std::optional<world::DelayLineCounters> line();

 private:
  explicit Path(world::NetNamespace client) : client_(std::move(client)) {}

  world::NetNamespace client_;
  std::unique_ptr<world::DelayLine> line_;
};

/// TCP segments that came to a namespace with a wrong checksum, since it was made.
Result<std::uint64_t> checksum_errors(const world::NetNamespace& net);

}  // namespace tandem::survival
