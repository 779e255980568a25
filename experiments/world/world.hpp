// The little world of the demo, the benchmarks and the integration tests: two hosts, a cable
// between them, and a switch with a client on it.
//
//              clients' switch (namespace "lan", bridge sw0, 10.88.0.1/24)
//                 │ port-alpha                       │ port-beta
//            lan0 │                             lan0 │
//        ┌── br0 ─┴─ alpha ──┐             ┌── br0 ──┴─ beta ──┐
//        │  VM's tap         │ rep0 ═ rep0 │                   │
//        └───── 10.77.0.1 ───┘             └───── 10.77.0.2 ───┘
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "base/error.hpp"
#include "experiments/world/host.hpp"
#include "experiments/world/net_namespace.hpp"

namespace tandem::world {

/// How the hosts' replication links meet. A host that dies takes a direct cable's carrier with it;
/// behind a switch its peer's link stays up, and only silence tells.
enum class Cabling { direct, switched };

struct WorldOptions {
  std::filesystem::path parent = "/tmp";
  bool keep = false;  ///< leave the directory when the world ends
  Cabling cabling = Cabling::direct;
  std::string replication_rate;  ///< shape the cable between the hosts ("1gbit"); empty: full speed
};

class World {
 public:
  static constexpr const char* kClientAddress = "10.88.0.1";
  static constexpr const char* kAlphaPort = "port-alpha";
  static constexpr const char* kBetaPort = "port-beta";

  /// Builds it in a fresh directory PARENT/tnd-XXXXXX: unix socket paths may have 107 bytes only.
  static Result<World> make(WorldOptions options);

  World(World&&) noexcept = default;
  World& operator=(World&&) = delete;
  /// Ends every process of both hosts and removes the directory, unless it is kept.
  ~World();

  [[nodiscard]] Host& alpha() noexcept { return *alpha_; }
  [[nodiscard]] Host& beta() noexcept { return *beta_; }
  /// "alpha" or "beta"; anything else is a programmer's error.
  [[nodiscard]] Host& host(const std::string& name);
  [[nodiscard]] Host& other(const Host& host) noexcept {
    return &host == alpha_.get() ? *beta_ : *alpha_;
  }
  /// The switch's namespace, where clients run.
  [[nodiscard]] const NetNamespace& lan() const noexcept { return *lan_; }
  [[nodiscard]] const std::filesystem::path& directory() const noexcept { return directory_; }
  /// Leaves the directory in place when the world ends.
  void keep() noexcept { keep_ = true; }

 private:
  World() = default;

  std::filesystem::path directory_;
  bool keep_ = false;
  std::unique_ptr<NetNamespace> lan_;
  std::unique_ptr<Host> alpha_, beta_;
};

}  // namespace tandem::world
