// The VM of a benchmark in the little world: both daemons, the VM booted on host alpha, and calls
// of alpha's API that Ctrl-C ends.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "base/error.hpp"
#include "experiments/demo/host_view.hpp"
#include "experiments/demo/interrupt.hpp"
#include "experiments/world/installation.hpp"
#include "experiments/world/world.hpp"

namespace tandem::bench {

class BenchVm {
 public:
  static constexpr const char* kName = "demo";
  static constexpr const char* kAddress = "10.88.0.10";

  BenchVm(const world::Installation& installation, demo::Interrupt& interrupt, world::World& world)
      : installation_(installation), interrupt_(interrupt), world_(world) {}

  /// Before boot(): so many more VMs that alpha knows, and that are never started.
  void add_definitions(int count) { more_definitions_ = count; }
  /// Returns when the guest's services answer.
  Result<void> boot();
  /// POST /v1/vms/NAME + `action`. Errc::closed if interrupted; then no host has a process left.
  Result<void> post(const std::string& action, const nlohmann::json& body);
  /// GET /v1/vms/NAME + `query`.
  Result<nlohmann::json> get(const std::string& query);
  demo::HostView look() { return demo::look_at(world_.alpha(), kName); }

  /// Known once it has booted.
  [[nodiscard]] const std::string& qemu_version() const noexcept { return qemu_version_; }
  [[nodiscard]] const std::string& accelerator() const noexcept { return accelerator_; }

 private:
  Result<void> start_daemons();

  const world::Installation& installation_;
  demo::Interrupt& interrupt_;
  world::World& world_;
  int more_definitions_ = 0;
  std::string qemu_version_, accelerator_;
};

/// What was begun has been ended by Ctrl-C.
Error interrupted();

}  // namespace tandem::bench
