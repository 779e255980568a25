// The QMP client against a real QEMU. No guest is needed: the machine stands still or runs its
// firmware.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <csignal>

#include <algorithm>
#include <array>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "base/unique_fd.hpp"
#include "qmp/client.hpp"
#include "qmp/commands.hpp"
#include "tests/unit/qmp_coroutine.hpp"

// g++ 12 takes an inlined coroutine's frame, which has an operator new and delete of its own, for a
// mismatch.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"
#endif

extern char** environ;

namespace tandem::qmp {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::system_clock;
using test::run;
using test::start;
using Names = std::vector<std::string>;

std::string qemu_binary() {
  const char* const chosen = ::getenv("TANDEM_QEMU");
  return chosen != nullptr ? chosen : "qemu-system-x86_64";
}

/// What a program prints, empty if it cannot be run.
std::string output_of(const std::string& command) {
  std::string text;
  FILE* const pipe = ::popen((command + " 2>/dev/null").c_str(), "r");
  if (pipe == nullptr) return text;
  std::array<char, 256> part{};
  while (std::fgets(part.data(), part.size(), pipe) != nullptr) text += part.data();
  ::pclose(pipe);
  return text;
}

/// A QEMU process with a monitor at path(); killed and reaped at the end.
class Qemu {
 public:
  explicit Qemu(Names arguments) : path_(folder_ / "qmp.sock") {
    // QEMU gets the listening socket ready-made, so that a client can connect before QEMU has
    // started.
    const UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, sizeof address.sun_path - 1);
    if (::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(listener.get(), 1) != 0) {
      ADD_FAILURE() << "cannot listen at " << path_;
      return;
    }
    Names command = {qemu_binary(), "-nodefaults", "-display", "none", "-m",
                     "64",          "-accel",      "tcg",      "-S"};
    command.insert(command.end(), arguments.begin(), arguments.end());
    const Names monitor = {
        "-chardev",
        "socket,id=monitor,fd=" + std::to_string(listener.get()) + ",server=on,wait=off", "-mon",
        "chardev=monitor,mode=control"};
    command.insert(command.end(), monitor.begin(), monitor.end());
    std::vector<char*> argv;
    for (std::string& word : command) argv.push_back(word.data());
    argv.push_back(nullptr);
    if (::posix_spawnp(&pid_, argv[0], nullptr, nullptr, argv.data(), environ) != 0) {
      pid_ = -1;
      ADD_FAILURE() << "cannot start " << command.front();
    }
  }
  Qemu(const Qemu&) = delete;
  Qemu& operator=(const Qemu&) = delete;
  ~Qemu() {
    if (pid_ <= 0) return;
    kill(SIGKILL);
    kill(SIGCONT);
    reap();
  }

  [[nodiscard]] const std::string& path() const { return path_; }
  void kill(int signal_number) const {
    if (pid_ > 0) ::kill(pid_, signal_number);
  }
  /// Waits for the end of the process; its wait status.
  int reap() {
    int status = -1;
    if (pid_ > 0 && ::waitpid(pid_, &status, 0) == pid_) pid_ = -1;
    return status;
  }

 private:
  test::TemporaryFolder folder_;
  std::string path_;
  pid_t pid_ = -1;
};

Task<std::shared_ptr<Client>> connected(const Qemu& qemu) {
  ClientOptions options;
  options.connect_timeout = seconds(15);
  auto connecting = Client::connect(qemu.path(), options);
  auto client = co_await std::move(connecting);
  if (!client) {
    ADD_FAILURE() << client.error().message;
    co_return nullptr;
  }
  co_return *client;
}

bool contains(const Names& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

class QmpQemu : public ::testing::Test {
 protected:
  void SetUp() override {
    version_text_ = output_of(qemu_binary() + " --version");
    if (version_text_.empty()) GTEST_SKIP() << qemu_binary() << " is not installed";
  }
  std::string version_text_;
};

Task<> check_version(const std::string& text) {
  const Qemu qemu({"-machine", "none"});
  const auto client = co_await connected(qemu);
  CO_ASSERT(client);
  const std::string expected = "version " + to_string(client->version());
  EXPECT_NE(text.find(expected), std::string::npos) << expected << " in " << text;
  if (!client->version().package.empty()) {
    EXPECT_NE(text.find(client->version().package), std::string::npos) << text;
  }
  EXPECT_TRUE(client->supports_out_of_band()) << "every QEMU since 2.12 offers it on a socket";
}

TEST_F(QmpQemu, TheGreetingsVersionIsTheProgramsOwn) {
  run([this]() { return check_version(version_text_); });
}

TEST_F(QmpQemu, StatusErrorsAndQuit) {
  run([]() -> Task<> {
    Qemu qemu({"-machine", "none"});
    const auto client = co_await connected(qemu);
    CO_ASSERT(client);
    const auto status = co_await query_status(*client);
    CO_ASSERT_OK(status);
    EXPECT_FALSE(status->running);
    EXPECT_EQ(status->state, "prelaunch");

    const auto unknown = co_await client->execute("no-such-command");
    CO_ASSERT(!unknown);
    EXPECT_EQ(unknown.error().code, Errc::refused);
    EXPECT_NE(unknown.error().message.find("CommandNotFound"), std::string::npos);
    const auto absent = co_await delete_object(*client, "absent");
    CO_ASSERT(!absent);
    EXPECT_EQ(absent.error().code, Errc::refused);
    const auto migration = co_await query_migrate(*client);
    CO_ASSERT_OK(migration);
    EXPECT_EQ(migration->status, "none");

    // An answer of a few hundred kilobytes.
    const auto schema = co_await client->execute("query-qmp-schema");
    CO_ASSERT_OK(schema);
    EXPECT_GT(schema->size(), 500U);

    test::Signal closed(co_await asio::this_coro::executor);
    client->on_close([closed](const Error&) { closed.set(); });
    const auto done = co_await quit(*client);
    EXPECT_TRUE(done);
    co_await closed.wait();
    const int exit_status = qemu.reap();
    EXPECT_TRUE(WIFEXITED(exit_status));
    EXPECT_EQ(WEXITSTATUS(exit_status), 0);
  });
}

TEST_F(QmpQemu, StopAndResumeComeAsEventsWithTheirTimes) {
  run([]() -> Task<> {
    const Qemu qemu({"-machine", "pc"});
    const auto client = co_await connected(qemu);
    CO_ASSERT(client);
    std::vector<Event> events;
    client->on_event([&](const Event& event) {
      if (event.name == "STOP" || event.name == "RESUME") events.push_back(event);
    });
    const auto before = system_clock::now();
    for (int round = 0; round < 3; ++round) {
      const auto resumed = co_await cont(*client);
      CO_ASSERT_OK(resumed);
      const auto status = co_await query_status(*client);
      CO_ASSERT_OK(status);
      EXPECT_TRUE(status->running);
      const auto stopped = co_await stop(*client);
      CO_ASSERT_OK(stopped);
    }
    // QEMU sends the events of a command before its answer.
    const auto after = system_clock::now();
    CO_ASSERT(events.size() == 6);
    for (std::size_t i = 0; i < events.size(); ++i) {
      EXPECT_EQ(events[i].name, i % 2 == 0 ? "RESUME" : "STOP");
      // QEMU's clock is this one, cut to microseconds.
      EXPECT_GE(events[i].at, before - milliseconds(1));
      EXPECT_LE(events[i].at, after);
      if (i > 0) {
        EXPECT_GE(events[i].at, events[i - 1].at);
      }
    }
  });
}

TEST_F(QmpQemu, CommandsInParallelGetTheirOwnAnswers) {
  run([]() -> Task<> {
    const auto executor = co_await asio::this_coro::executor;
    const Qemu qemu({"-machine", "none"});
    const auto client = co_await connected(qemu);
    CO_ASSERT(client);
    // Far more than QEMU's own queue takes.
    std::vector<test::Started<Result<json>>> known, unknown;
    for (int i = 0; i < 50; ++i) {
      known.push_back(start(executor, client->execute("query-version")));
      unknown.push_back(start(executor, client->execute("unknown-" + std::to_string(i))));
    }
    for (std::size_t i = 0; i < known.size(); ++i) {
      const auto version = co_await known[i].result();
      CO_ASSERT_OK(version);
      EXPECT_EQ((*version)["qemu"]["major"], client->version().major);
      const auto refused = co_await unknown[i].result();
      CO_ASSERT(!refused);
      EXPECT_NE(refused.error().message.find("unknown-" + std::to_string(i)), std::string::npos);
    }
  });
}

Names test_chardevs() {
  return {"mirror-out", "inject-in", "capture-out"};
}
Names test_filters() {
  return {"capture", "inject", "mirror"};
}

/// Everything that protecting a VM attaches, then everything away again, twice.
Task<> attach_and_detach(std::string backend) {
  const Qemu qemu(
      {"-machine", "pc", "-netdev", backend, "-device", "virtio-net-pci,netdev=n0,romfile="});
  const auto client = co_await connected(qemu);
  CO_ASSERT(client);
  for (int round = 0; round < 2; ++round) {
    const Names chardevs = test_chardevs();
    std::vector<UniqueFd> ours;
    std::vector<test::Started<Result<void>>> handing;
    std::vector<UniqueFd> theirs;
    const auto executor = co_await asio::this_coro::executor;
    for (std::size_t i = 0; i < chardevs.size(); ++i) {
      std::array<int, 2> ends{};
      CO_ASSERT(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
      ours.emplace_back(ends[0]);
      theirs.emplace_back(ends[1]);
    }
    // All at once: each descriptor must reach QEMU under its own name.
    for (std::size_t i = 0; i < chardevs.size(); ++i) {
      handing.push_back(start(executor, getfd(*client, chardevs[i], theirs[i].get())));
    }
    for (const auto& each : handing) {
      const auto handed = co_await each.result();
      CO_ASSERT_OK(handed);
    }
    theirs.clear();
    for (const std::string& name : chardevs) {
      const auto added = co_await add_fd_chardev(*client, name, name);
      CO_ASSERT_OK(added);
    }
    const auto mirrored =
        co_await add_filter_mirror(*client, "mirror", "n0", FilterQueue::tx, chardevs[0]);
    CO_ASSERT_OK(mirrored);
    const std::string none;
    const auto injecting =
        co_await add_filter_redirector(*client, "inject", "n0", FilterQueue::rx, chardevs[1], none);
    CO_ASSERT_OK(injecting);
    const auto capturing = co_await add_filter_redirector(*client, "capture", "n0", FilterQueue::rx,
                                                          none, chardevs[2]);
    CO_ASSERT_OK(capturing);

    const auto there = co_await query_chardevs(*client);
    CO_ASSERT_OK(there);
    const auto objects = co_await list_objects(*client);
    CO_ASSERT_OK(objects);
    for (const std::string& name : chardevs) EXPECT_TRUE(contains(*there, name)) << name;
    EXPECT_TRUE(contains(*objects, "mirror"));
    EXPECT_TRUE(contains(*objects, "inject"));
    EXPECT_TRUE(contains(*objects, "capture"));
    const auto in_use = co_await remove_chardev(*client, chardevs[0]);
    EXPECT_FALSE(in_use) << "a filter still writes to it";
    const auto twice =
        co_await add_filter_mirror(*client, "mirror", "n0", FilterQueue::tx, chardevs[0]);
    EXPECT_FALSE(twice);

    for (const std::string& name : test_filters()) {
      const auto deleted = co_await delete_object(*client, name);
      CO_ASSERT_OK(deleted);
    }
    for (const std::string& name : chardevs) {
      const auto removed = co_await remove_chardev(*client, name);
      CO_ASSERT_OK(removed);
    }
    const auto left = co_await query_chardevs(*client);
    CO_ASSERT_OK(left);
    EXPECT_EQ(left->size(), 1U) << "the monitor's own";
    const auto objects_left = co_await list_objects(*client);
    CO_ASSERT_OK(objects_left);
    for (const std::string& name : test_filters()) EXPECT_FALSE(contains(*objects_left, name));
    // QEMU held the other ends, one each: with the chardevs gone they are closed.
    for (const UniqueFd& end : ours) {
      char byte = 0;
      EXPECT_EQ(::recv(end.get(), &byte, 1, MSG_DONTWAIT), 0);
    }
  }
}

TEST_F(QmpQemu, FiltersComeAndGoOnANetdevHub) {
  run([]() { return attach_and_detach("hubport,id=n0,hubid=0"); });
}

TEST_F(QmpQemu, FiltersComeAndGoOnANetdevSocket) {
  run([]() { return attach_and_detach("socket,id=n0,udp=127.0.0.1:9,localaddr=127.0.0.1:0"); });
}

TEST_F(QmpQemu, AChardevConnectsToAUnixSocket) {
  run([]() -> Task<> {
    const Qemu qemu({"-machine", "none"});
    const auto client = co_await connected(qemu);
    CO_ASSERT(client);
    const test::TemporaryFolder folder;
    const std::string path = folder / "chardev.sock";
    const auto nobody = co_await add_unix_chardev(*client, "c", path);
    CO_ASSERT(!nobody);
    EXPECT_EQ(nobody.error().code, Errc::refused);
    const auto executor = co_await asio::this_coro::executor;
    const asio::local::stream_protocol::endpoint endpoint(path);
    asio::local::stream_protocol::acceptor acceptor(executor, endpoint);
    const auto added = co_await add_unix_chardev(*client, "c", path);
    CO_ASSERT_OK(added);
    auto [ec, socket] = co_await acceptor.async_accept(use_tuple);
    EXPECT_FALSE(ec);
    const auto removed = co_await remove_chardev(*client, "c");
    CO_ASSERT_OK(removed);
  });
}

TEST_F(QmpQemu, DescriptorsHaveNames) {
  run([]() -> Task<> {
    const Qemu qemu({"-machine", "none"});
    const auto client = co_await connected(qemu);
    CO_ASSERT(client);
    const auto unnamed = co_await closefd(*client, "x");
    EXPECT_FALSE(unnamed);
    const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    const auto handed = co_await getfd(*client, "x", null.get());
    CO_ASSERT_OK(handed);
    const auto closed = co_await closefd(*client, "x");
    CO_ASSERT_OK(closed);
    const auto again = co_await closefd(*client, "x");
    EXPECT_FALSE(again);
  });
}

TEST_F(QmpQemu, MigrationSettingsAreTaken) {
  run([]() -> Task<> {
    const Qemu qemu({"-machine", "pc"});
    const auto client = co_await connected(qemu);
    CO_ASSERT(client);
    MigrationParameters parameters;
    parameters.checkpoint_delay_ms = 250;
    parameters.max_bandwidth = 100'000'000'000;
    const auto set = co_await set_parameters(*client, parameters);
    CO_ASSERT_OK(set);
    const auto now = co_await client->execute("query-migrate-parameters");
    CO_ASSERT_OK(now);
    EXPECT_EQ((*now)["x-checkpoint-delay"], 250);
    EXPECT_EQ((*now)["max-bandwidth"], 100'000'000'000);

    std::vector<std::pair<std::string, bool>> capabilities;
    capabilities.emplace_back("events", true);
    const auto enabled = co_await set_capabilities(*client, capabilities);
    CO_ASSERT_OK(enabled);
    const auto announced = co_await announce_self(*client);
    CO_ASSERT_OK(announced);
    const auto powered = co_await system_powerdown(*client);
    CO_ASSERT_OK(powered);
    const auto no_colo = co_await colo_lost_heartbeat(*client);
    EXPECT_FALSE(no_colo) << "it is not in COLO";
    const auto cancelled = co_await migrate_cancel(*client);
    CO_ASSERT_OK(cancelled);
    const auto outgoing_only = co_await migrate_incoming(*client, "defer");
    EXPECT_FALSE(outgoing_only);
  });
}

TEST_F(QmpQemu, AnOutOfBandCommandPassesABusyMainLoop) {
  run([]() -> Task<> {
    const auto executor = co_await asio::this_coro::executor;
    const Qemu qemu({"-machine", "none"});
    const auto client = co_await connected(qemu);
    CO_ASSERT(client);
    CO_ASSERT(client->supports_out_of_band());
    // The main loop waits inside chardev-add for a connection to the new server socket, which
    // nobody makes until the test has seen enough.
    const test::TemporaryFolder folder;
    const std::string path = folder / "wait.sock";
    json arguments = json::object();
    arguments["id"] = "waiting";
    arguments["backend"]["type"] = "socket";
    arguments["backend"]["data"]["addr"]["type"] = "unix";
    arguments["backend"]["data"]["addr"]["data"]["path"] = path;
    arguments["backend"]["data"]["server"] = true;
    arguments["backend"]["data"]["wait"] = true;
    auto blocking = start(executor, client->execute("chardev-add", arguments));
    std::vector<test::Started<Result<json>>> behind;
    for (int i = 0; i < 20; ++i) behind.push_back(start(executor, client->execute("query-status")));

    // Once the socket is there the command is being carried out.
    asio::steady_timer timer(executor);
    for (int attempt = 0; attempt < 2000 && !std::filesystem::exists(path); ++attempt) {
      timer.expires_after(milliseconds(2));
      co_await timer.async_wait(use_tuple);
    }
    CO_ASSERT(std::filesystem::exists(path));

    ExecuteOptions options;
    options.out_of_band = true;
    const auto passed = co_await client->execute("query-yank", json::object(), options);
    CO_ASSERT_OK(passed);
    EXPECT_TRUE(passed->is_array());
    EXPECT_FALSE(blocking.done());
    for (const auto& each : behind) EXPECT_FALSE(each.done());
    const auto not_oob = co_await client->execute("query-status", json::object(), options);
    CO_ASSERT(!not_oob);
    EXPECT_EQ(not_oob.error().code, Errc::refused);

    // Bound, it may not have come to listen yet.
    asio::local::stream_protocol::socket socket(executor);
    for (int attempt = 0; attempt < 1000; ++attempt) {
      boost::system::error_code ec;
      socket.connect(asio::local::stream_protocol::endpoint(path), ec);
      if (!ec) break;
      socket.close();
      timer.expires_after(milliseconds(5));
      co_await timer.async_wait(use_tuple);
    }
    const auto added = co_await blocking.result();
    CO_ASSERT_OK(added);
    for (const auto& each : behind) {
      const auto status = co_await each.result();
      CO_ASSERT_OK(status);
    }
  });
}

TEST_F(QmpQemu, KilledInTheMiddleOfACommand) {
  run([]() -> Task<> {
    const auto executor = co_await asio::this_coro::executor;
    Qemu qemu({"-machine", "none"});
    const auto client = co_await connected(qemu);
    CO_ASSERT(client);
    int told = 0;
    client->on_close([&](const Error& error) {
      ++told;
      EXPECT_EQ(error.code, Errc::closed);
    });
    // Stopped, it cannot answer; so the commands are certainly under way when it dies.
    qemu.kill(SIGSTOP);
    std::vector<test::Started<Result<json>>> running;
    for (int i = 0; i < 3; ++i) running.push_back(start(executor, client->execute("query-status")));
    co_await test::settle();
    for (const auto& each : running) EXPECT_FALSE(each.done());
    qemu.kill(SIGKILL);
    for (const auto& each : running) {
      const auto answer = co_await each.result();
      CO_ASSERT(!answer);
      EXPECT_EQ(answer.error().code, Errc::closed);
    }
    EXPECT_EQ(told, 1);
    EXPECT_FALSE(client->is_open());
    const auto after = co_await query_status(*client);
    CO_ASSERT(!after);
    EXPECT_EQ(after.error().code, Errc::closed);
    EXPECT_EQ(told, 1);
  });
}

TEST_F(QmpQemu, AStoppedProcessTimesOutAndItsLateAnswerDisturbsNothing) {
  run([]() -> Task<> {
    const Qemu qemu({"-machine", "none"});
    const auto client = co_await connected(qemu);
    CO_ASSERT(client);
    qemu.kill(SIGSTOP);
    ExecuteOptions options;
    options.timeout = milliseconds(50);
    const auto late = co_await client->execute("query-version", json::object(), options);
    CO_ASSERT(!late);
    EXPECT_EQ(late.error().code, Errc::timed_out);
    qemu.kill(SIGCONT);
    const auto status = co_await query_status(*client);
    CO_ASSERT_OK(status);
    EXPECT_EQ(status->state, "prelaunch");
    EXPECT_TRUE(client->is_open());
  });
}

}  // namespace
}  // namespace tandem::qmp
