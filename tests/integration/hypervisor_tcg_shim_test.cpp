// QEMU's own COLO, QEMU to QEMU, under software emulation with the shim that mends it.
//
// Without the shim a QEMU before 11 stands still after a few checkpoints, and one before 9.0 hands
// its secondary memory that lacks stores. The guest dirties memory all the time, so that both would
// show: the first as a checkpoint that does not come, the second as a kernel that panics after the
// failover.
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <exception>

#include "base/file.hpp"
#include "engine/hypervisor/local_hypervisor.hpp"
#include "engine/hypervisor/process.hpp"
#include "qmp/commands.hpp"

namespace tandem::hypervisor {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

constexpr int checkpoints_wanted = 30;

struct Guest {
  VmProcess process;
  std::shared_ptr<qmp::Client> monitor;
  ~Guest() {
    if (process.pidfd) static_cast<void>(send_kill(process.pidfd.get()));
  }
};

Task<Result<void>> start_guest(LocalHypervisor& driver, VmDefinition vm, StartMode mode,
                               Guest& to) {
  auto started = co_await driver.start(vm, mode);
  if (!started) co_return started.error();
  to.process = *std::move(started);
  auto monitor = co_await qmp::Client::connect(to.process.qmp_socket.string());
  if (!monitor) co_return monitor.error();
  to.monitor = *std::move(monitor);
  co_return Result<void>();
}

Task<Result<void>> prepare_colo(qmp::Client& monitor, const qmp::Version& version) {
  std::vector<std::pair<std::string, bool>> capabilities;
  for (auto& name : colo_capabilities(version)) capabilities.emplace_back(name, true);
  auto set = co_await qmp::set_capabilities(monitor, capabilities);
  if (!set) co_return set.error();
  qmp::MigrationParameters parameters;
  parameters.checkpoint_delay_ms = 100;
  parameters.max_bandwidth = 100'000'000'000;
  co_return co_await qmp::set_parameters(monitor, parameters);
}

/// Waits until `condition` holds, looking every 20 ms: it is made of events and of a log file.
template <class Condition>
Task<bool> reached(Condition condition, std::chrono::seconds timeout) {
  asio::steady_timer timer(co_await asio::this_coro::executor);
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  while (!condition()) {
    if (std::chrono::steady_clock::now() >= deadline) co_return false;
    timer.expires_after(20ms);
    const auto [ec] = co_await timer.async_wait(use_tuple);
    if (ec) co_return false;
  }
  co_return true;
}

std::string serial_output(const Guest& guest) {
  const auto text = read_file(guest.process.serial);
  return text ? *text : "";
}

Task<void> protect_and_fail_over(fs::path folder, QemuConfig config, VmDefinition vm) {
  auto probed = co_await probe(config);
  if (!probed) {
    ADD_FAILURE() << probed.error().message;
    co_return;
  }
  const auto version = probed->version;
  LocalHypervisor host_a(config, *probed, folder / "a");
  LocalHypervisor host_b(config, *probed, folder / "b");
  Guest primary, secondary;
  auto started = co_await start_guest(host_a, vm, StartMode::run, primary);
  if (started) started = co_await start_guest(host_b, vm, StartMode::incoming, secondary);
  if (!started) {
    ADD_FAILURE() << started.error().message;
    co_return;
  }
  const auto has_booted = [&] {
    return serial_output(primary).find("BOOTED") != std::string::npos;
  };
  if (!co_await reached(has_booted, 60s)) {
    ADD_FAILURE() << "the guest does not boot: " << serial_output(primary);
    co_return;
  }
  int checkpoints = 0;
  primary.monitor->on_event([&](const qmp::Event& event) {
    if (event.name == "RESUME") ++checkpoints;
  });
  auto done = co_await prepare_colo(*primary.monitor, version);
  if (done) done = co_await prepare_colo(*secondary.monitor, version);
  const auto uri = "unix:" + (folder / "colo").string();
  if (done) done = co_await qmp::migrate_incoming(*secondary.monitor, uri);
  if (done) done = co_await qmp::migrate(*primary.monitor, uri);
  if (!done) {
    ADD_FAILURE() << done.error().message;
    co_return;
  }
  const auto enough = [&] { return checkpoints >= checkpoints_wanted; };
  const bool kept_going = co_await reached(enough, 60s);
  EXPECT_TRUE(kept_going) << "stuck after " << checkpoints << " checkpoints";
  auto killed = co_await host_a.kill(primary.process);
  EXPECT_TRUE(killed);
  if (!kept_going) co_return;

  auto promoted = co_await qmp::colo_lost_heartbeat(*secondary.monitor);
  EXPECT_TRUE(promoted) << promoted.error().message;
  // The guest checks 8 MiB without a pause; after a panic, panic=-1 resets it at once.
  int resets = 0;
  secondary.monitor->on_event([&](const qmp::Event& event) {
    if (event.name == "RESET" || event.name == "SHUTDOWN") ++resets;
  });
  const auto trouble = [&] {
    const auto said = serial_output(secondary);
    return resets > 0 || said.find("panic") != std::string::npos ||
           said.find("dirty: page") != std::string::npos;
  };
  const bool in_trouble = co_await reached(trouble, 3s);
  EXPECT_FALSE(in_trouble) << "after the failover the guest says: " << serial_output(secondary);
  auto status = co_await qmp::query_status(*secondary.monitor);
  EXPECT_TRUE(status && status->running);
}

TEST(TcgShim, KeepsColoGoingAndTheSecondaryWhole) {
  const char* from_environment = ::getenv("TANDEM_GUEST_DIR");
  const fs::path guest = from_environment ? from_environment : TANDEM_GUEST_DEFAULT_DIR;
  QemuConfig config;
  if (const char* binary = ::getenv("TANDEM_QEMU")) config.binary = binary;
  config.accel = "tcg";
  config.tcg_shim = TANDEM_TCG_SHIM;
  if (::access(config.binary.c_str(), X_OK) != 0) {
    GTEST_SKIP() << config.binary << " is missing (package qemu-system-x86)";
  }
  auto cmdline = read_file(guest / "cmdline.txt");
  if (!cmdline) GTEST_SKIP() << "no guest image in " << guest << ": run scripts/guest-image";
  cmdline->erase(cmdline->find_last_not_of('\n') + 1);
  char name[] = "/tmp/tandem-shim-XXXXXX";
  ASSERT_NE(::mkdtemp(name), nullptr);
  VmDefinition vm;
  vm.name = "guest";
  vm.kernel = fs::absolute(guest / "vmlinux").string();
  vm.initrd = fs::absolute(guest / "redis.cpio.gz").string();
  // Without a pause: a process that sleeps has an empty TLB when it wakes, which hides the lost
  // stores.
  vm.cmdline = *cmdline + " tandem.dirty_mib=8 tandem.dirty_rate=1000";
  asio::io_context io;
  asio::co_spawn(io, protect_and_fail_over(name, config, vm),
                 [](const std::exception_ptr& failure) {
                   if (failure) std::rethrow_exception(failure);
                 });
  io.run();
  std::error_code ec;
  fs::remove_all(name, ec);
}

}  // namespace
}  // namespace tandem::hypervisor
