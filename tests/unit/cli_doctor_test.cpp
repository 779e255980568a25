// The judgements of `tandem doctor`, from facts that are given.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/cli/check.hpp"
#include "engine/cli/host_checks.hpp"
#include "engine/cli/peer_probe.hpp"

namespace tandem::cli {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::uint64_t mib = 1u << 20;

Verdict verdict_of(const Checks& checks, const std::string& name) {
  for (const auto& check : checks) {
    if (check.check == name) return check.status;
  }
  ADD_FAILURE() << "there is no check " << name;
  return Verdict::skipped;
}

daemon::Config two_vms() {
  daemon::Config config;
  config.host = "alpha";
  config.arbiter_directory = "/a";
  for (const char* name : {"web", "db"}) {
    hypervisor::VmDefinition vm;
    vm.name = name;
    vm.memory_mib = 256;
    hypervisor::Nic nic;
    nic.mac = name == std::string("web") ? "52:54:00:00:00:0a" : "52:54:00:00:00:0b";
    nic.tap = std::string(name) + "0";
    vm.nics.push_back(nic);
    config.vms.push_back(vm);
  }
  return config;
}

Introduction fitting() {
  Introduction beta;
  beta.host = "beta";
  beta.version = TANDEM_VERSION;
  beta.qemu_version = "7.2.22";
  beta.accelerator = "tcg";
  beta.arbiter = "local:/a";
  beta.machine = "m";
  return beta;
}

Checks judge(const Introduction& introduction) {
  const daemon::Peer beta{"beta", {"192.0.2.2", 7070}};
  hypervisor::QemuProbe probe;
  probe.version = {7, 2, 22, ""};
  return judge_peer(two_vms(), beta, introduction, "m", probe);
}

TEST(CliDoctor, ALineForEachCheckAndOneForAdvice) {
  const Checks checks{{"qemu", Verdict::ok, "7.2", ""},
                      {"bridge:br0", Verdict::error, "none\x1b", "make it"}};
  EXPECT_THAT(
      check_lines(checks),
      ElementsAre("ok       qemu        7.2", "error    bridge:br0  none?", "         -> make it"));
  EXPECT_EQ(to_json(checks)[1], (json{{"check", "bridge:br0"},
                                      {"status", "error"},
                                      {"detail", "none\x1b"},
                                      {"advice", "make it"}}));
}

TEST(CliDoctor, OnlyAnErrorFails) {
  EXPECT_FALSE(any_error({{"a", Verdict::warning, "", ""}, {"b", Verdict::skipped, "", ""}}));
  EXPECT_TRUE(any_error({{"a", Verdict::ok, "", ""}, {"b", Verdict::error, "", ""}}));
}

TEST(CliDoctor, MeminfoIsRead) {
  const auto facts = parse_meminfo(
      "MemTotal:       100 kB\nMemAvailable:   4096 kB\nCommitLimit:  10 kB\nCommitted_AS:  3 kB");
  ASSERT_TRUE(facts);
  EXPECT_EQ(facts->available, 4 * mib);
  EXPECT_EQ(facts->commit_limit, 10'240u);
  EXPECT_EQ(facts->committed, 3'072u);
  EXPECT_EQ(parse_meminfo("MemAvailable: 1 kB\n").error().message,
            "/proc/meminfo has no CommitLimit");
  EXPECT_FALSE(parse_meminfo(""));
  EXPECT_FALSE(parse_meminfo("MemAvailable: x\nCommitLimit: 1 kB\nCommitted_AS: 1 kB"));
  EXPECT_FALSE(
      parse_meminfo("MemAvailable: 99999999999999999999 kB\nCommitLimit: 1\nCommitted_AS: 1"));
}

TEST(CliDoctor, ARunningVmHasItsMemoryAlready) {
  const auto config = two_vms();
  const auto need = memory_need(config, {});
  EXPECT_EQ(need.guests, 2 * 320 * mib);
  EXPECT_GT(need.checkpoints, 2 * 3 * 256 * mib);
  const json status{
      {"vms", {{{"name", "web"}, {"qemu_pid", 7}}, {{"name", "db"}, {"qemu_pid", nullptr}}}}};
  EXPECT_EQ(memory_need(config, status).guests, 320 * mib);
  EXPECT_EQ(memory_need(config, json{{"vms", "?"}}).guests, 2 * 320 * mib);
}

TEST(CliDoctor, MemoryIsEnoughShortOrTooLittle) {
  const MemoryNeed need{100, 300};
  EXPECT_EQ(verdict_of(judge_memory(need, {.available = 400}), "memory"), Verdict::ok);
  EXPECT_EQ(verdict_of(judge_memory(need, {.available = 399}), "memory"), Verdict::warning);
  EXPECT_EQ(verdict_of(judge_memory(need, {.available = 99}), "memory"), Verdict::error);
}

TEST(CliDoctor, StrictOvercommitMustHaveRoom) {
  const MemoryNeed need{100, 300};
  MemoryFacts facts{.available = 1000, .commit_limit = 1000, .committed = 600, .overcommit = 2};
  EXPECT_EQ(verdict_of(judge_memory(need, facts), "overcommit"), Verdict::ok);
  facts.committed = 601;
  EXPECT_EQ(verdict_of(judge_memory(need, facts), "overcommit"), Verdict::error);
  facts.committed = 2000;
  EXPECT_EQ(verdict_of(judge_memory(need, facts), "overcommit"), Verdict::error);
  facts.overcommit = 0;
  EXPECT_EQ(verdict_of(judge_memory(need, facts), "overcommit"), Verdict::ok);
}

TEST(CliDoctor, NamesMustBeUnique) {
  EXPECT_EQ(verdict_of(check_names(two_vms()), "names"), Verdict::ok);
  auto same_tap = two_vms();
  same_tap.vms[1].nics[0].tap = "web0";
  EXPECT_THAT(check_names(same_tap)[0].detail, HasSubstr("tap web0 is used by web and db"));
  auto same_mac = two_vms();
  same_mac.vms[1].nics[0].mac = "52:54:00:00:00:0A";
  EXPECT_EQ(verdict_of(check_names(same_mac), "names"), Verdict::error)
      << "capitals are no difference";
  auto own_peer = two_vms();
  own_peer.peers.push_back({"alpha", {"192.0.2.2", 7070}});
  EXPECT_THAT(check_names(own_peer)[0].detail, HasSubstr("two hosts are called alpha"));
}

TEST(CliDoctor, AGuardianIsKnownByItsArguments) {
  EXPECT_EQ(config_of_guardian({"/usr/sbin/tandemd", "--config", "/a"}), "/a");
  EXPECT_EQ(config_of_guardian({"tandemd", "--config=/a"}), "/a");
  EXPECT_EQ(config_of_guardian({"tandemd"}), "/etc/tandem/tandemd.toml");
  EXPECT_EQ(config_of_guardian({"tandemd", "--config", "/a", "--life-sign", "5"}), std::nullopt);
  EXPECT_EQ(config_of_guardian({"tandem", "--config", "/a"}), std::nullopt);
  EXPECT_EQ(config_of_guardian({}), std::nullopt);
}

TEST(CliDoctor, AnIntroductionIsRead) {
  double time = 0;
  const auto read = parse_introduction(
      R"({"host":"beta","version":"1","qemu":{"version":"7.2.22","accel":"kvm"},"arbiter":"local:/a",
          "machine":"m","time":12.5})",
      time);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->host, "beta");
  EXPECT_EQ(read->qemu_version, "7.2.22");
  EXPECT_EQ(read->accelerator, "kvm");
  EXPECT_EQ(time, 12.5);
  const auto no_qemu = parse_introduction(
      R"({"host":"b","version":"1","qemu":null,"arbiter":"","machine":"","time":1})", time);
  ASSERT_TRUE(no_qemu);
  EXPECT_EQ(no_qemu->qemu_version, std::nullopt);
}

TEST(CliDoctor, ABrokenIntroductionIsRefusedByField) {
  double time = 0;
  for (const char* text : {"", "[]", "{", R"({"host":1})"})
    EXPECT_FALSE(parse_introduction(text, time));
  EXPECT_THAT(
      parse_introduction(R"({"host":"b","version":"1","arbiter":"","machine":"","time":"x"})", time)
          .error()
          .message,
      HasSubstr("\"time\""));
}

TEST(CliDoctor, AFittingPeerIsFine) {
  for (const auto& check : judge(fitting())) EXPECT_EQ(check.status, Verdict::ok) << check.check;
}

TEST(CliDoctor, EachMismatchWithAPeerIsFound) {
  auto other = fitting();
  other.host = "gamma";
  EXPECT_EQ(verdict_of(judge(other), "peer:beta"), Verdict::error);
  other = fitting();
  other.version = "0.0.1";
  EXPECT_EQ(verdict_of(judge(other), "peer-version:beta"), Verdict::error);
  other = fitting();
  other.qemu_version = "8.0.0";
  EXPECT_EQ(verdict_of(judge(other), "peer-qemu:beta"), Verdict::error);
  other = fitting();
  other.accelerator = "kvm";
  EXPECT_EQ(verdict_of(judge(other), "peer-qemu:beta"), Verdict::error);
  other = fitting();
  other.qemu_version.reset();
  EXPECT_EQ(verdict_of(judge(other), "peer-qemu:beta"), Verdict::skipped);
  other = fitting();
  other.arbiter = "local:/b";
  EXPECT_EQ(verdict_of(judge(other), "peer-arbiter:beta"), Verdict::error);
  other = fitting();
  other.machine = "another";
  EXPECT_EQ(verdict_of(judge(other), "peer-arbiter:beta"), Verdict::warning);
  other = fitting();
  other.clock_ahead = std::chrono::duration<double>(-2);
  EXPECT_EQ(verdict_of(judge(other), "peer-clock:beta"), Verdict::warning);
}

TEST(CliDoctor, APeerWithThisHostsNameIsThisHost) {
  auto own = fitting();
  own.host = "alpha";
  const auto checks = judge(own);
  EXPECT_EQ(checks[0].status, Verdict::error);
  EXPECT_THAT(checks[0].advice, HasSubstr("this host's own name"));
}

}  // namespace
}  // namespace tandem::cli
