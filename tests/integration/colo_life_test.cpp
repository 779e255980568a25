// The life of a pair in COLO mode: both VMs run, with real daemons, real QEMUs and a client that
// keeps one TCP connection to redis in the guest through all of it.
#include <signal.h>

#include <algorithm>

#include "tests/integration/cli_runner.hpp"
#include "tests/integration/pair_life.hpp"

namespace tandem::integration {
namespace {

class ColoLife : public PairLife {
 protected:
  void protect_in_colo(world::Host& primary, const std::string& peer) {
    post(primary, "/protect", {{"peer", peer}, {"policy", "colo"}});
    ASSERT_TRUE(eventually([&] { return vm(primary).value("mode", json()) == "colo"; }));
  }
  /// The guest is up, and nobody has spoken TCP with it yet.
  void wait_until_booted() {
    const auto log = alpha().place().run_dir / "demo" / "serial.log";
    ASSERT_TRUE(eventually(
        [&] { return world::file_tail(log, 50).find("BOOTED") != std::string::npos; }, 60s));
  }
  pid_t qemu(world::Host& host) { return vm(host)["qemu_pid"].get<pid_t>(); }
};

TEST_F(ColoLife, OutputLeavesWithoutACheckpoint) {
  connect_client();
  protect_in_colo(alpha(), "beta");
  expect_answers("in colo mode");
  const auto before = vm(alpha());
  expect_answers("still in colo mode");
  const auto after = vm(alpha());
  EXPECT_GT(after["compare"]["released_frames"], before["compare"]["released_frames"]);
  EXPECT_GT(after["compare"]["compared_bytes"], before["compare"]["compared_bytes"]);
  EXPECT_GT(vm(beta())["input"]["fed_frames"], 0);
  expect_nothing_lost();
}

TEST_F(ColoLife, ATraceShowsWhatWasComparedAndWhatBecameOfIt) {
  connect_client();
  protect_in_colo(alpha(), "beta");
  expect_answers("in colo mode");
  const cli::Folder folder;
  const auto file = folder / "trace.pcapng";
  const auto ran =
      cli::tandem(alpha(), {"trace", "demo", "--pcap", file.string(), "--seconds", "2"});
  EXPECT_EQ(ran.status, 0) << ran.err;
  const auto text = cli::content(file);
  for (const auto* part : {"n0 primary", "n0 secondary", "n0 client", "released", "to both VMs"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part;
  }
  const auto read = cli::run({"/usr/bin/tcpdump", "-n", "-r", file.string(), "tcp port 6379"});
  EXPECT_EQ(read.status, 0) << read.err;
  EXPECT_GT(std::ranges::count(read.out, '\n'), 100) << "100 requests a second, for two seconds";

  const auto refused = cli::tandem(beta(), {"trace", "demo", "--pcap", file.string()});
  EXPECT_NE(refused.status, 0) << "the secondary's host compares nothing";
  EXPECT_TRUE(cli::is_one_line_of_error(refused.err));
  expect_nothing_lost();
}

TEST_F(ColoLife, ProtectionBeginsAndEndsAgainAndAgain) {
  connect_client();
  const char* rounds = std::getenv("TANDEM_TEST_ROUNDS");
  for (int round = 0; round < (rounds != nullptr ? std::atoi(rounds) : 4); ++round) {
    protect_in_colo(alpha(), "beta");
    expect_answers("in round " + std::to_string(round));
    ASSERT_FALSE(HasFailure()) << vm(alpha()).dump(1) << vm(beta()).dump(1);
    post(alpha(), "/unprotect");
    ASSERT_TRUE(eventually([&] { return beta().qemu_processes().empty(); }));
  }
  expect_nothing_lost();
}

TEST_F(ColoLife, ASecondaryVmThatHangsIsGivenUpAndTheServiceGoesOn) {
  connect_client();
  protect_in_colo(alpha(), "beta");
  expect_answers("in colo mode");
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_EQ(::kill(qemu(beta()), SIGSTOP), 0);
  EXPECT_TRUE(becomes(alpha(), "solo"));
  EXPECT_TRUE(eventually([&] { return beta().qemu_processes().empty(); }));
  expect_answers("alone");
  const auto report = client_->finish({}).get();
  EXPECT_TRUE(report.connection_survived) << report.connection_problem;
  EXPECT_EQ(report.lost, 0u) << report.read_back_problem;
  EXPECT_LT(demo::longest_silence(report.answers, begin, report.waiting_until), 6s);
}

TEST_F(ColoLife, AConnectionOpenedAfterTheLastCheckpointSurvivesTwoFailovers) {
  wait_until_booted();
  protect_in_colo(alpha(), "beta");
  connect_client();  // the guest's first: its numbers differ between the two VMs
  expect_answers("in colo mode");
  ASSERT_EQ(::kill(qemu(alpha()), SIGKILL), 0);
  ASSERT_TRUE(becomes(beta(), "solo"));
  expect_answers("after the first failover");
  EXPECT_GT(vm(beta())["translations"], 0);
  ASSERT_TRUE(eventually([&] { return alpha().qemu_processes().empty(); }));

  protect_in_colo(beta(), "alpha");
  expect_answers("in colo mode, the other way round");
  ASSERT_EQ(::kill(qemu(beta()), SIGKILL), 0);
  ASSERT_TRUE(becomes(alpha(), "solo"));
  expect_answers("after the second failover");
  EXPECT_GT(vm(alpha())["translations"], 0);
  expect_nothing_lost();
}

TEST_F(ColoLife, ATranslatedConnectionSurvivesTheDeathOfItsDaemon) {
  wait_until_booted();
  protect_in_colo(alpha(), "beta");
  connect_client();
  expect_answers("in colo mode");
  ASSERT_EQ(::kill(qemu(alpha()), SIGKILL), 0);
  ASSERT_TRUE(becomes(beta(), "solo"));
  expect_answers("after the failover");

  const auto killed = worker(beta());
  ASSERT_EQ(::kill(killed, SIGKILL), 0);
  ASSERT_TRUE(eventually([&] { return worker(beta()) != killed && becomes(beta(), "solo"); }));
  expect_answers("with a new worker");
  EXPECT_GT(vm(beta())["translations"], 0);
  expect_nothing_lost();
}

TEST_F(ColoLife, ATranslatedConnectionSurvivesAPeriodicPairToo) {
  wait_until_booted();
  protect_in_colo(alpha(), "beta");
  connect_client();
  expect_answers("in colo mode");
  ASSERT_EQ(::kill(qemu(alpha()), SIGKILL), 0);
  ASSERT_TRUE(becomes(beta(), "solo"));
  expect_answers("after the first failover");
  ASSERT_TRUE(eventually([&] { return alpha().qemu_processes().empty(); }));

  post(beta(), "/protect", {{"peer", "alpha"}});
  expect_answers("in periodic mode");
  ASSERT_EQ(::kill(qemu(beta()), SIGKILL), 0);
  ASSERT_TRUE(becomes(alpha(), "solo"));
  expect_answers("after the second failover");
  expect_nothing_lost();
}

}  // namespace
}  // namespace tandem::integration
