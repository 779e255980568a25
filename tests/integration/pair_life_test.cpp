// The life of a pair with real daemons, real QEMUs and a client that keeps one TCP connection to
// redis in the guest through all of it.
#include <arpa/inet.h>
#include <signal.h>
#include <sys/socket.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include "qmp/commands.hpp"
#include "tests/integration/pair_life.hpp"

namespace tandem::integration {
namespace {

TEST_F(PairLife, ProtectionEndsAndComesBackAndTheVmMovesToAndFro) {
  connect_client();
  EXPECT_EQ(post(alpha(), "/protect", {{"peer", "beta"}})["role"], "primary");
  expect_answers("protected");

  EXPECT_EQ(post(alpha(), "/unprotect")["role"], "solo");
  EXPECT_TRUE(eventually([&] { return beta().qemu_processes().empty(); }));
  expect_answers("unprotected");

  EXPECT_EQ(post(alpha(), "/protect", {{"peer", "beta"}})["role"], "primary");
  expect_answers("protected again");

  post(alpha(), "/failover");
  EXPECT_TRUE(becomes(beta(), "solo"));
  EXPECT_TRUE(alpha().qemu_processes().empty());
  expect_answers("switched over to beta");

  EXPECT_EQ(post(beta(), "/protect", {{"peer", "alpha"}})["role"], "primary");
  expect_answers("protected from beta");
  const auto qemu = vm(beta())["qemu_pid"].get<pid_t>();
  ASSERT_EQ(::kill(qemu, SIGKILL), 0);
  EXPECT_TRUE(becomes(alpha(), "solo"));
  expect_answers("failed over to alpha");
  EXPECT_EQ(vm(alpha())["generation"], 6);
  expect_nothing_lost();
}

TEST_F(PairLife, ADaemonThatIsStoppedLeavesTheVmRunningAndTakesItUpAgain) {
  connect_client();
  post(alpha(), "/protect", {{"peer", "beta"}});
  expect_answers("protected");
  ASSERT_TRUE(alpha().daemon()->kill(SIGTERM));
  const auto ended = alpha().daemon()->wait(15s);
  ASSERT_TRUE(ended) << ended.error().message;
  EXPECT_TRUE(ended->success()) << ended->describe();
  expect_answers("without a daemon");
  EXPECT_TRUE(eventually([&] { return beta().qemu_processes().empty(); }));

  start_daemon(alpha());
  EXPECT_TRUE(becomes(alpha(), "solo"));
  EXPECT_EQ(post(alpha(), "/protect", {{"peer", "beta"}})["role"], "primary");
  expect_answers("protected again");
  expect_nothing_lost();
}

TEST_F(PairLife, ASecondaryWhoseDaemonDiesIsGivenUpAndThePrimaryGoesOn) {
  connect_client();
  post(alpha(), "/protect", {{"peer", "beta"}});
  expect_answers("protected");
  const auto first = worker(beta());
  ASSERT_EQ(::kill(first, SIGKILL), 0);
  EXPECT_TRUE(becomes(alpha(), "solo"));
  expect_answers("alone");
  EXPECT_TRUE(eventually([&] { return worker(beta()) != 0 && worker(beta()) != first; }));
  EXPECT_TRUE(eventually([&] { return beta().qemu_processes().empty(); }));
  EXPECT_EQ(post(alpha(), "/protect", {{"peer", "beta"}})["role"], "primary");
  expect_answers("protected again");
  expect_nothing_lost();
}

TEST_F(PairLife, AGuestThatPowersItselfOffEndsThePairOnBothSides) {
  connect_client();
  post(alpha(), "/protect", {{"peer", "beta"}});
  expect_answers("protected");
  const auto socket = world_->lan().open_socket(AF_INET, SOCK_DGRAM, 0);
  ASSERT_TRUE(socket) << socket.error().message;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(7000);
  ::inet_pton(AF_INET, guest_address, &address.sin_addr);
  const std::string_view order = "poweroff";
  ASSERT_GT(::sendto(socket->get(), order.data(), order.size(), 0,
                     reinterpret_cast<const sockaddr*>(&address), sizeof address),
            0);
  EXPECT_TRUE(eventually([&] { return alpha().qemu_processes().empty(); }));
  EXPECT_TRUE(eventually([&] { return beta().qemu_processes().empty(); }));
  EXPECT_TRUE(becomes(alpha(), "none"));
  client_.reset();
  // Nothing stands in the way of the next life.
  EXPECT_EQ(post(alpha(), "/start")["state"], "running");
  connect_client();
  EXPECT_EQ(post(alpha(), "/protect", {{"peer", "beta"}})["role"], "primary");
  expect_answers("started and protected again");
}

TEST_F(PairLife, AHostThatComesBackAfterAFailoverDoesNotStartTheVmASecondTime) {
  connect_client();
  post(alpha(), "/protect", {{"peer", "beta"}});
  expect_answers("protected");
  ASSERT_TRUE(alpha().cut_links());
  ASSERT_TRUE(alpha().kill_everything());
  EXPECT_TRUE(becomes(beta(), "solo"));
  expect_answers("failed over");
  ASSERT_TRUE(alpha().restore_links());
  options_.vms.front().autostart = true;
  start_daemon(alpha());
  const auto answer = alpha().api().post(std::string(vm_path) + "/start", json::object(), 30s);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, Errc::conflict);
  EXPECT_NE(answer.error().message.find("beta"), std::string::npos) << answer.error().message;
  EXPECT_TRUE(alpha().qemu_processes().empty());
  EXPECT_EQ(post(beta(), "/protect", {{"peer", "alpha"}})["role"], "primary");
  expect_answers("protected again");
  expect_nothing_lost();
}

TEST_F(PairLife, AGateThatLosesItsCaptureEndsProtectionAndNotTheService) {
  boost::asio::io_context context;
  std::shared_ptr<tandem::qmp::Client> monitor;
  const auto run = [&](tandem::Task<void> task) {
    boost::asio::co_spawn(context, std::move(task), [&](const std::exception_ptr& exception) {
      context.stop();
      if (exception) std::rethrow_exception(exception);
    });
    context.restart();
    context.run_for(10s);
  };
  const auto connect = [&]() -> tandem::Task<void> {
    const auto client = co_await tandem::qmp::Client::connect(second_monitor_.string());
    EXPECT_TRUE(client);
    if (client) monitor = *client;
  };
  run(connect());
  ASSERT_TRUE(monitor);
  connect_client();
  post(alpha(), "/protect", {{"peer", "beta"}});
  expect_answers("protected");

  const auto take_capture_away = [&]() -> tandem::Task<void> {
    const auto deleted = co_await tandem::qmp::delete_object(*monitor, "tnd-n0-capture");
    EXPECT_TRUE(deleted);
    const auto removed = co_await tandem::qmp::remove_chardev(*monitor, "tnd-n0-capture");
    EXPECT_TRUE(removed);
  };
  run(take_capture_away());
  EXPECT_TRUE(becomes(alpha(), "solo"));
  EXPECT_TRUE(eventually([&] { return beta().qemu_processes().empty(); }));
  expect_answers("alone");
  monitor->close();
  expect_nothing_lost();
}

TEST_F(PairLife, AServiceUnderProtectionNeverStandsStill) {
  connect_client();
  post(alpha(), "/protect", {{"peer", "beta"}});
  const auto begin = std::chrono::steady_clock::now();
  std::this_thread::sleep_for(15s);  // what is tested is that time passes and nothing goes wrong
  const auto report = client_->finish({}).get();
  EXPECT_TRUE(report.connection_survived) << report.connection_problem;
  EXPECT_EQ(report.lost, 0u) << report.read_back_problem;
  const auto silence = tandem::demo::longest_silence(report.answers, begin, report.waiting_until);
  EXPECT_LT(silence, 1s) << "answers stayed away for "
                         << std::chrono::duration_cast<std::chrono::milliseconds>(silence).count()
                         << " ms without any failure";
}

TEST_F(PairLife, TheDaemonsMemoryIsBoundedByTheLargestCheckpoint) {
  connect_client();
  post(alpha(), "/protect", {{"peer", "beta"}});
  expect_answers("protected");
  EXPECT_TRUE(eventually([&] { return vm(alpha())["checkpoints"]["committed"] >= 20; }, 30s));
  for (auto* host : {&alpha(), &beta()}) {
    const auto largest = vm(*host)["checkpoint_bytes_largest"].get<std::uint64_t>();
    EXPECT_GT(largest, 0u);
    EXPECT_LE(peak_memory(*host), (64u << 20) + 3 * largest) << host->name();
  }
  EXPECT_GE(vm(beta())["stopped_ratio"].get<double>(), 0.95);
}

TEST_F(PairLife, WhatCannotBeDoneIsRefusedAndChangesNothing) {
  const auto refused = [&](tandem::world::Host& host, const std::string& target, const json& body) {
    const auto answer = host.api().post(target, body, 30s);
    EXPECT_FALSE(answer) << target << " succeeded: " << (answer ? answer->dump() : "");
    return answer ? Errc::io : answer.error().code;
  };
  EXPECT_EQ(refused(alpha(), "/v1/vms/nobody/protect", {{"peer", "beta"}}), Errc::not_found);
  EXPECT_EQ(refused(alpha(), "/v1/vms/demo/protect", {{"peer", "gamma"}}), Errc::not_found);
  EXPECT_EQ(refused(alpha(), "/v1/vms/demo/protect", {{"pear", "beta"}}), Errc::invalid_input);
  EXPECT_EQ(refused(alpha(), "/v1/vms/demo/unprotect", json::object()), Errc::conflict);
  EXPECT_EQ(refused(alpha(), "/v1/vms/demo/failover", json::object()), Errc::conflict);
  EXPECT_EQ(refused(alpha(), "/v1/vms/demo/start", json::object()), Errc::conflict);
  EXPECT_EQ(vm(alpha())["role"], "none");
  EXPECT_EQ(vm(alpha())["state"], "running");
  post(alpha(), "/protect", {{"peer", "beta"}});
  EXPECT_EQ(refused(alpha(), "/v1/vms/demo/protect", {{"peer", "beta"}}), Errc::conflict);
  EXPECT_EQ(refused(alpha(), "/v1/vms/demo/stop", json::object()), Errc::conflict);
  EXPECT_EQ(refused(beta(), "/v1/vms/demo/stop", json::object()), Errc::conflict);
  EXPECT_EQ(refused(beta(), "/v1/vms/demo/protect", {{"peer", "alpha"}}), Errc::conflict);
  EXPECT_EQ(vm(alpha())["state"], "protected");
}

}  // namespace
}  // namespace tandem::integration
