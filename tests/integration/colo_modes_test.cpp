// A running pair changes between periodic and COLO mode under a busy client.
#include <signal.h>

#include <atomic>

#include "tests/integration/pair_life.hpp"

namespace tandem::integration {
namespace {

class ColoModes : public PairLife {
 protected:
  void connect_busy_client() {
    demo::ClientOptions options;
    options.address = guest_address;
    options.net = &world_->lan();
    options.writes_per_second = 200;
    client_ = std::make_unique<demo::RedisClient>(options);
    const auto connected = client_->connect(60s).get();
    ASSERT_TRUE(connected) << connected.error().message;
    client_->start_writing();
  }
};

/// Asks a host again and again whether its VM is protected.
class ProtectionWatch {
 public:
  explicit ProtectionWatch(world::Host& host)
      : thread_([this, api = host.api()] {
          while (!stopping_) {
            const auto answer = api.get(vm_path, 5s);
            ++looks_;
            if (!answer || !answer->value("protected", false)) ++gaps_;
            std::this_thread::sleep_for(5ms);
          }
        }) {}
  ProtectionWatch(const ProtectionWatch&) = delete;
  ProtectionWatch& operator=(const ProtectionWatch&) = delete;
  ~ProtectionWatch() { stop(); }

  void stop() {
    stopping_ = true;
    if (thread_.joinable()) thread_.join();
  }
  [[nodiscard]] int looks() const { return looks_; }
  [[nodiscard]] int gaps() const { return gaps_; }

 private:
  std::atomic<bool> stopping_{false};
  std::atomic<int> looks_{0}, gaps_{0};
  std::thread thread_;
};

TEST_F(ColoModes, TenSwitchesLoseNothingAndTheVmIsProtectedAllTheTime) {
  connect_busy_client();
  post(alpha(), "/protect", {{"peer", "beta"}, {"policy", "colo"}});
  expect_answers("protected");
  ProtectionWatch watch(alpha());
  for (int i = 0; i < 10; ++i) {
    const std::string mode = i % 2 == 0 ? "periodic" : "colo";
    const auto answer = post(alpha(), "/policy", {{"policy", mode}});
    EXPECT_EQ(answer.value("mode", json()), mode) << i;
    expect_answers("switch " + std::to_string(i) + " to " + mode);
    EXPECT_EQ(vm(alpha()).value("mode", json()), mode) << i;
  }
  watch.stop();
  EXPECT_GT(watch.looks(), 100);
  EXPECT_EQ(watch.gaps(), 0);
  // What it was all for: the other copy holds everything that was acknowledged.
  ASSERT_EQ(::kill(vm(alpha())["qemu_pid"].get<pid_t>(), SIGKILL), 0);
  EXPECT_TRUE(becomes(beta(), "solo"));
  expect_answers("failed over");
  expect_nothing_lost();
}

}  // namespace
}  // namespace tandem::integration
