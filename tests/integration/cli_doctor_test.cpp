// `tandem doctor` on hosts with one fault each, and on one without.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include "tests/integration/cli_runner.hpp"

namespace tandem::cli {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::HasSubstr;

struct Found {
  int status = -1;
  json checks;

  [[nodiscard]] json check(const std::string& name) const {
    for (const auto& check : checks) {
      if (check["check"] == name) return check;
    }
    ADD_FAILURE() << "there is no check " << name << " in " << checks.dump(2);
    return {{"status", ""}, {"detail", ""}, {"advice", ""}};
  }
  [[nodiscard]] std::string verdict(const std::string& name) const { return check(name)["status"]; }
  [[nodiscard]] std::string errors() const {
    std::string text;
    for (const auto& check : checks) {
      if (check["status"] == "error") text += check.dump() + "\n";
    }
    return text;
  }
};

class Doctor : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (!fs::exists("/usr/bin/qemu-system-x86_64")) GTEST_SKIP() << "QEMU is not installed";
    if (!fs::exists("/dev/net/tun")) GTEST_SKIP() << "/dev/net/tun is missing";
  }
  void SetUp() override {
    auto world = world::World::make({});
    ASSERT_TRUE(world) << world.error().message;
    world_ = std::make_unique<world::World>(std::move(*world));
    options_ = daemon_options();
    options_.vms = {small_vm("web")};
    kernel_ = world_->directory() / "kernel";
    std::ofstream(kernel_) << "x";
    options_.vms[0].kernel = kernel_;
    place_ = world_->alpha().place();
  }

  world::Host& host() { return world_->alpha(); }

  void start(world::Host& which) {
    auto options = daemon_options();
    if (&which == &host()) options.vms = options_.vms;
    const auto started = which.start_daemon(options);
    ASSERT_TRUE(started) << started.error().message;
  }

  /// Examines alpha with the configuration that options_ and place_ make.
  Found examine(const std::vector<std::string>& more = {}) {
    const auto file = world_->directory() / "doctor.toml";
    std::ofstream(file) << world::daemon_config(options_, place_);
    std::vector<std::string> words{"doctor", "--json",   "--config",
                                   file,     "--socket", place_.api_socket};
    words.insert(words.end(), more.begin(), more.end());
    const auto ran = tandem(words, &host().net());
    Found found{ran.status, ran.json()};
    EXPECT_EQ(found.status, found.errors().empty() ? 0 : 1);
    for (const auto& check : found.checks) {
      EXPECT_EQ(check.size(), 4u);
      if (check["status"] == "error" || check["status"] == "warning") {
        EXPECT_NE(check["advice"], "") << check;
      }
    }
    return found;
  }

  std::unique_ptr<world::World> world_;
  world::DaemonOptions options_;
  world::DaemonPlace place_;
  fs::path kernel_;
};

/// Listens in a host's network, and never answers.
UniqueFd listener(const world::Host& host, const char* address, std::uint16_t port) {
  auto fd = host.net().open_socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (!fd) {
    ADD_FAILURE() << fd.error().message;
    return {};
  }
  sockaddr_in where{};
  where.sin_family = AF_INET;
  where.sin_port = htons(port);
  ::inet_pton(AF_INET, address, &where.sin_addr);
  EXPECT_EQ(::bind(fd->get(), reinterpret_cast<sockaddr*>(&where), sizeof where), 0);
  EXPECT_EQ(::listen(fd->get(), 4), 0);
  return std::move(*fd);
}

TEST_F(Doctor, FindsNoErrorOnTwoHostsThatAreWell) {
  start(host());
  start(world_->beta());
  const auto found = examine();
  EXPECT_EQ(found.status, 0) << found.errors();
  for (const char* check : {"configuration",  "names",
                            "qemu",           "accelerator",
                            "tcg-shim",       "tap",
                            "bridge:br0",     "kernel:web",
                            "state-dir",      "run-dir",
                            "arbiter-dir",    "socket-path",
                            "api-socket",     "daemon",
                            "other-daemons",  "listen",
                            "peer:beta",      "peer-version:beta",
                            "peer-qemu:beta", "peer-arbiter:beta",
                            "peer-clock:beta"}) {
    EXPECT_EQ(found.verdict(check), "ok") << found.check(check);
  }
  EXPECT_THAT(found.check("listen")["detail"].get<std::string>(), HasSubstr("own tandemd"));
  // Being asked leaves no trace: no pair began, nothing was refused.
  const auto events = tandem(world_->beta(), {"events", "--json"}).json();
  EXPECT_EQ(events["events"], json::array());
}

TEST_F(Doctor, WorksWithoutADaemonAndSaysTheSameInText) {
  start(world_->beta());
  const auto found = examine({"--peer", "beta"});
  EXPECT_EQ(found.status, 0) << found.errors();
  EXPECT_EQ(found.verdict("daemon"), "skipped");
  EXPECT_EQ(found.verdict("peer:beta"), "ok");
  EXPECT_THAT(found.check("listen")["detail"].get<std::string>(), HasSubstr("is free"));
  const auto text =
      tandem({"doctor", "--config", world_->directory() / "doctor.toml"}, &host().net());
  EXPECT_EQ(text.status, 0) << text.out;
  EXPECT_THAT(text.out, testing::ContainsRegex("ok +configuration +"));
  EXPECT_THAT(text.out,
              testing::ContainsRegex("warning +api-socket +[^\n]*\n +-> set TANDEM_SOCKET="));
  const auto api = world_->alpha().directory() / "state" / "vms";
  EXPECT_FALSE(fs::exists(api)) << "it must change nothing";
}

TEST_F(Doctor, WithoutAConfigurationTheMachineIsExaminedAllTheSame) {
  const auto ran = tandem({"doctor", "--json", "--config", "/nonexistent.toml"}, &host().net());
  EXPECT_EQ(ran.status, 1);
  const Found found{ran.status, ran.json()};
  EXPECT_EQ(found.verdict("configuration"), "error");
  EXPECT_EQ(found.verdict("qemu"), "ok");
  EXPECT_EQ(found.verdict("memory"), "skipped");
}

TEST_F(Doctor, AWrongConfigurationIsToldByFileLineAndKey) {
  const auto file = world_->directory() / "wrong.toml";
  std::ofstream(file) << "[host]\nname = 7\n";
  const auto ran = tandem({"doctor", "--json", "--config", file}, &host().net());
  EXPECT_EQ(ran.status, 1);
  EXPECT_THAT((Found{1, ran.json()}).check("configuration")["detail"].get<std::string>(),
              HasSubstr(file.string() + ":2: host.name is not a string"));
}

TEST_F(Doctor, APeerThatIsDownIsAnError) {
  const auto found = examine();
  EXPECT_EQ(found.verdict("peer:beta"), "error");
  EXPECT_THAT(found.check("peer:beta")["advice"].get<std::string>(),
              HasSubstr("start tandemd on beta"));
}

TEST_F(Doctor, APeerOfAnotherNameIsAnError) {
  start(world_->beta());
  place_.peer = "gamma";
  EXPECT_THAT(examine().check("peer:gamma")["detail"].get<std::string>(), HasSubstr("is \"beta\""));
}

TEST_F(Doctor, APeerThatIsNotConfiguredIsAnError) {
  EXPECT_EQ(examine({"--peer", "delta"}).verdict("peer:delta"), "error");
}

TEST_F(Doctor, AnotherArbiterOfThePeerIsAnError) {
  start(world_->beta());
  place_.arbiter_dir = world_->directory() / "other-arbiter";
  EXPECT_EQ(examine().verdict("peer-arbiter:beta"), "error");
}

TEST_F(Doctor, APortThatAnotherProgramHoldsIsAnError) {
  const auto other = listener(host(), "10.77.0.1", 7070);
  const auto found = examine();
  EXPECT_EQ(found.verdict("listen"), "error");
  EXPECT_THAT(found.check("listen")["advice"].get<std::string>(), HasSubstr("ss -ltnp"));
}

TEST_F(Doctor, AnAddressOfAnotherHostIsAnError) {
  place_.listen = "192.0.2.1:7070";
  EXPECT_EQ(examine().verdict("listen"), "error");
}

TEST_F(Doctor, AnAddressThatPeersCannotReachIsAWarning) {
  place_.listen = "127.0.0.1:7070";
  EXPECT_EQ(examine().verdict("listen:beta"), "warning");
}

TEST_F(Doctor, AMissingBridgeIsAnErrorAndAnotherInterfaceIsNone) {
  options_.vms[0].nics[0].bridge = "br9";
  EXPECT_THAT(examine().check("bridge:br9")["advice"].get<std::string>(),
              HasSubstr("ip link add br9"));
  options_.vms[0].nics[0].bridge = world::Host::kReplicationLink;
  EXPECT_THAT(examine().check("bridge:rep0")["detail"].get<std::string>(),
              HasSubstr("not a bridge"));
}

TEST_F(Doctor, AMissingOrEmptyKernelIsAnError) {
  std::ofstream(kernel_, std::ios::trunc).flush();
  EXPECT_THAT(examine().check("kernel:web")["detail"].get<std::string>(), HasSubstr("is empty"));
  options_.vms[0].kernel = "/nonexistent/vmlinuz";
  EXPECT_EQ(examine().verdict("kernel:web"), "error");
}

TEST_F(Doctor, AMissingQemuIsAnError) {
  options_.qemu = "/nonexistent/qemu";
  const auto found = examine();
  EXPECT_EQ(found.verdict("qemu"), "error");
  EXPECT_EQ(found.verdict("accelerator"), "skipped");
}

TEST_F(Doctor, AQemuOfABrokenVersionIsAnErrorByNumber) {
  const auto fake = world_->directory() / "qemu";
  std::ofstream(fake) << "#!/bin/sh\necho 'QEMU emulator version 10.0.2 (fake)'\n";
  fs::permissions(fake, fs::perms::owner_all);
  options_.qemu = fake;
  EXPECT_THAT(examine().check("qemu")["detail"].get<std::string>(), HasSubstr("10.0.2"));
}

TEST_F(Doctor, AMissingShimIsAnErrorWhereItIsNeeded) {
  options_.tcg_shim.clear();
  EXPECT_EQ(examine().verdict("tcg-shim"), "error");
  options_.tcg_shim = "/nonexistent/shim.so";
  EXPECT_EQ(examine().verdict("tcg-shim"), "error");
}

TEST_F(Doctor, MoreMemoryThanThereIsIsAnError) {
  options_.vms[0].memory_mib = 16u << 20;
  EXPECT_EQ(examine().verdict("memory"), "error");
}

TEST_F(Doctor, ALongSocketPathIsAnError) {
  place_.run_dir = world_->directory() / std::string(100, 'r');
  EXPECT_THAT(examine().check("socket-path")["advice"].get<std::string>(),
              HasSubstr("host.run_dir"));
}

TEST_F(Doctor, AFolderThatCannotBeMadeIsAnError) {
  place_.state_dir = kernel_ / "state";
  EXPECT_EQ(examine().verdict("state-dir"), "error");
}

TEST_F(Doctor, AFullFileSystemIsAnError) {
  world::SpawnOptions mount;
  const auto small = world_->directory() / "small";
  fs::create_directory(small);
  mount.argv = {"mount", "-t", "tmpfs", "-o", "size=64k", "none", small};
  if (const auto mounted = world::run(mount); !mounted) GTEST_SKIP() << mounted.error().message;
  std::ofstream(small / "filler") << std::string(65536, 'x');
  place_.state_dir = small;
  EXPECT_EQ(examine().verdict("state-dir"), "error");
  mount.argv = {"umount", small};
  EXPECT_TRUE(world::run(mount));
}

TEST_F(Doctor, AnotherDaemonOnTheSameStateIsAnError) {
  start(host());
  place_.api_socket = world_->directory() / "other.sock";
  place_.listen = "10.77.0.1:7071";
  const auto found = examine();
  EXPECT_EQ(found.verdict("other-daemons"), "error");
  EXPECT_THAT(found.check("other-daemons")["detail"].get<std::string>(),
              HasSubstr("pid " + std::to_string(host().daemon()->pid())));
}

TEST_F(Doctor, ATapNameThatIsTakenIsAWarning) {
  ASSERT_TRUE(host().net().add_bridge("web0"));
  EXPECT_EQ(examine().verdict("tap:web0"), "warning");
}

}  // namespace
}  // namespace tandem::cli
