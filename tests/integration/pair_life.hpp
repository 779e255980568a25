// What the tests of a pair's life share: two hosts with daemons in a world of their own, a VM with
// redis on one of them, and a client that keeps one TCP connection to it.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "experiments/demo/ledger.hpp"
#include "experiments/demo/redis_client.hpp"
#include "experiments/world/world.hpp"

namespace tandem::integration {

using namespace std::chrono_literals;
using nlohmann::json;

inline constexpr const char* guest_address = "10.88.0.10";
inline constexpr const char* vm_path = "/v1/vms/demo";

inline std::filesystem::path guest_dir() {
  const char* dir = std::getenv("TANDEM_GUEST_DIR");
  return dir != nullptr ? dir : TANDEM_GUEST_DEFAULT_DIR;
}

class PairLife : public testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(guest_dir() / "vmlinux")) {
      GTEST_SKIP() << "no guest image in " << guest_dir() << "; scripts/guest-image makes it";
    }
    auto world = world::World::make({});
    ASSERT_TRUE(world) << world.error().message;
    world_ = std::make_unique<world::World>(std::move(*world));

    options_.tandemd = TANDEM_TANDEMD;
    options_.tcg_shim = TANDEM_TCG_SHIM;
    if (!std::filesystem::exists("/dev/kvm")) options_.accel = "tcg";
    hypervisor::VmDefinition vm;
    vm.name = "demo";
    vm.kernel = guest_dir() / "vmlinux";
    vm.initrd = guest_dir() / "redis.cpio.gz";
    std::ifstream cmdline(guest_dir() / "cmdline.txt");
    std::getline(cmdline, vm.cmdline);
    vm.cmdline += std::string(" tandem.ip=") + guest_address + "/24";
    // A monitor for the tests; the first is the daemon's. The secondary's QEMU takes the path over.
    second_monitor_ = world_->directory() / "second.qmp";
    vm.extra_args = {"-device", "virtio-rng-pci", "-qmp",
                     "unix:" + second_monitor_.string() + ",server=on,wait=off"};
    vm.nics.push_back({"n0", "52:54:00:12:34:56", "tnd0", "br0"});
    options_.vms = {vm};
    start_daemon(alpha());
    start_daemon(beta());
    post(alpha(), "/start");
  }

  void TearDown() override {
    if (HasFailure() && world_) {
      world_->keep();
      for (auto* host : {&world_->alpha(), &world_->beta()}) {
        std::cerr << host->name() << ":\n" << world::file_tail(host->daemon_log(), 30) << '\n';
      }
    }
    client_.reset();
    world_.reset();
  }

  world::Host& alpha() { return world_->alpha(); }
  world::Host& beta() { return world_->beta(); }

  void start_daemon(world::Host& host) {
    auto options = options_;
    // Only alpha defines the VM; beta learns it from alpha.
    if (&host == &beta()) options.vms.clear();
    const auto started = host.start_daemon(options);
    ASSERT_TRUE(started) << started.error().message;
  }

  json post(world::Host& host, const std::string& action, json body = json::object()) {
    const auto answer = host.api().post(vm_path + action, body, 60s);
    EXPECT_TRUE(answer) << action << ": " << (answer ? "" : answer.error().message);
    return answer ? *answer : json::object();
  }

  json vm(world::Host& host) {
    const auto answer = host.api().get(vm_path, 5s);
    return answer ? *answer : json::object();
  }

  /// Polls what the daemon says; the daemon has no event for every condition a test may want.
  bool eventually(const std::function<bool()>& condition, std::chrono::milliseconds limit = 15s) {
    const auto deadline = std::chrono::steady_clock::now() + limit;
    while (!condition()) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      std::this_thread::sleep_for(20ms);
    }
    return true;
  }

  bool becomes(world::Host& host, const std::string& role) {
    return eventually([&] { return vm(host).value("role", "") == role; });
  }

  void connect_client() {
    demo::ClientOptions options;
    options.address = guest_address;
    options.net = &world_->lan();
    client_ = std::make_unique<demo::RedisClient>(options);
    const auto connected = client_->connect(60s).get();
    ASSERT_TRUE(connected) << connected.error().message;
    client_->start_writing();
  }

  /// The client goes on getting answers: what the guest sends reaches it.
  void expect_answers(const std::string& when) {
    const auto before = client_->progress().acknowledged;
    EXPECT_TRUE(eventually([&] { return client_->progress().acknowledged >= before + 20; }))
        << when << ": no answers; " << client_->progress().problem;
  }

  void expect_nothing_lost() {
    const auto report = client_->finish({}).get();
    EXPECT_TRUE(report.connection_survived) << report.connection_problem;
    EXPECT_EQ(report.lost, 0u) << report.read_back_problem;
    EXPECT_GT(report.acknowledged, 0u);
  }

  pid_t worker(world::Host& host) {
    const auto status = host.api().get("/v1/status", 5s);
    return status ? (*status)["worker_pid"].get<pid_t>() : 0;
  }

  std::uint64_t peak_memory(world::Host& host) {
    std::ifstream file("/proc/" + std::to_string(worker(host)) + "/status");
    for (std::string line; std::getline(file, line);) {
      if (line.starts_with("VmHWM:")) return std::stoull(line.substr(6)) * 1024;
    }
    return 0;
  }

  std::unique_ptr<world::World> world_;
  world::DaemonOptions options_;
  std::unique_ptr<demo::RedisClient> client_;
  std::filesystem::path second_monitor_;
};

}  // namespace tandem::integration
