#include "experiments/bench/bench_vm.hpp"

#include <chrono>
#include <fstream>
#include <future>

#include "experiments/demo/failover_times.hpp"

namespace tandem::bench {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr seconds kBootTimeout{180};
constexpr seconds kCallTimeout{120};
constexpr seconds kLookTimeout{5};
constexpr milliseconds kTick{20};

std::string path_of(const std::string& rest) {
  return std::string("/v1/vms/") + BenchVm::kName + rest;
}

}  // namespace

Result<void> BenchVm::boot() {
  if (auto done = start_daemons(); !done) return done;
  if (auto done = post("/start", nlohmann::json::object()); !done) return done;
  if (const auto status = world_.alpha().api().get("/v1/status", kLookTimeout)) {
    qemu_version_ = demo::text_at(*status, "/qemu/version");
    accelerator_ = demo::text_at(*status, "/qemu/accel");
  }
  const auto serial = world_.alpha().place().run_dir / kName / "serial.log";
  const auto give_up = Clock::now() + kBootTimeout;
  for (;;) {
    std::ifstream file(serial);
    for (std::string line; std::getline(file, line);)
      if (line.starts_with("BOOTED")) return {};
    if (Clock::now() > give_up)
      return Error{Errc::timed_out,
                   "the guest does not boot; its last words:" + world::file_tail(serial, 8)};
    if (interrupt_.wait_for(kTick)) return interrupted();
  }
}

Result<void> BenchVm::start_daemons() {
  auto daemon = installation_.daemon_options();
  hypervisor::VmDefinition vm;
  vm.name = kName;
  vm.memory_mib = 256;
  vm.kernel = installation_.kernel();
  vm.initrd = installation_.initrd();
  vm.cmdline = installation_.kernel_arguments() + " tandem.ip=" + kAddress + "/24";
  // Without it the guest waits for randomness when it boots.
  vm.extra_args = {"-device", "virtio-rng-pci"};
  vm.nics.push_back({"n0", "52:54:00:12:34:56", "tnd0", world::Host::kBridge});
  daemon.vms = {vm};
  for (int i = 1; i <= more_definitions_; ++i) {
    vm.name = "idle" + std::to_string(i);
    vm.nics.clear();
    daemon.vms.push_back(vm);
  }
  if (auto started = world_.alpha().start_daemon(daemon); !started) return started;
  // The secondary's host needs no definition: it gets the VM from the primary's.
  daemon.vms.clear();
  return world_.beta().start_daemon(daemon);
}

Result<void> BenchVm::post(const std::string& action, const nlohmann::json& body) {
  auto future = std::async(std::launch::async, [api = world_.alpha().api(), action, body] {
    return api.post(path_of(action), body, kCallTimeout);
  });
  while (future.wait_for(kTick) != std::future_status::ready) {
    if (!interrupt_.raised()) continue;
    // The call ends with the daemons that it waits for.
    for (auto* host : {&world_.alpha(), &world_.beta()})
      [[maybe_unused]] const auto ended = host->kill_everything();
    return interrupted();
  }
  if (const auto answer = future.get(); !answer) return with_context(action, answer.error());
  return {};
}

Result<nlohmann::json> BenchVm::get(const std::string& query) {
  return world_.alpha().api().get(path_of(query), kLookTimeout);
}

Error interrupted() {
  return {Errc::closed, "interrupted"};
}

}  // namespace tandem::bench
