// The little world: namespaces, cables that can be cut, processes that can be killed, and a sandbox
// that leaves nothing behind.
#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <fstream>
#include <set>

#include "experiments/world/frame_witness.hpp"
#include "experiments/world/sandbox.hpp"
#include "experiments/world/world.hpp"

namespace tandem::world {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

ino_t own_namespace(const char* kind) {
  struct stat status {};
  ::stat((std::string("/proc/self/ns/") + kind).c_str(), &status);
  return status.st_ino;
}

SpawnOptions sleeper(const NetNamespace* net = nullptr) {
  SpawnOptions options;
  options.argv = {"sleep", "1000"};
  options.net = net;
  return options;
}

// ---- processes

TEST(WorldProcess, ReportsHowItEnded) {
  SpawnOptions options;
  options.argv = {"sh", "-c", "exit 7"};
  auto process = Process::spawn(options);
  ASSERT_TRUE(process) << process.error().message;
  const auto ended = process->wait(seconds(5));
  ASSERT_TRUE(ended);
  EXPECT_FALSE(ended->signalled);
  EXPECT_EQ(ended->value, 7);
  EXPECT_FALSE(process->running());
}

TEST(WorldProcess, IsKilledBySignal) {
  auto process = Process::spawn(sleeper());
  ASSERT_TRUE(process);
  EXPECT_TRUE(process->running());
  EXPECT_EQ(process->wait(milliseconds(1)).error().code, Errc::timed_out);
  ASSERT_TRUE(process->kill(SIGKILL));
  const auto ended = process->wait(seconds(5));
  ASSERT_TRUE(ended);
  EXPECT_TRUE(ended->signalled);
  EXPECT_EQ(ended->value, SIGKILL);
  EXPECT_TRUE(process->kill(SIGKILL)) << "a process that is gone is no error";
}

TEST(WorldProcess, DiesWithItsObject) {
  pid_t pid = 0;
  {
    auto process = Process::spawn(sleeper());
    ASSERT_TRUE(process);
    pid = process->pid();
    ASSERT_EQ(::kill(pid, 0), 0);
  }
  EXPECT_EQ(::kill(pid, 0), -1);
}

TEST(WorldProcess, SaysThatAProgramIsMissing) {
  SpawnOptions options;
  options.argv = {"no-such-program-here"};
  EXPECT_EQ(Process::spawn(options).error().code, Errc::not_found);
}

TEST(WorldProcess, RunReturnsTheOutputAndQuotesErrors) {
  SpawnOptions options;
  options.argv = {"sh", "-c", "echo $GREETING; echo bad >&2; exit $STATUS"};
  options.environment = {"GREETING=hello", "STATUS=0"};
  const auto good = run(options);
  ASSERT_TRUE(good) << good.error().message;
  EXPECT_EQ(*good, "hello\n");
  options.environment = {"STATUS=3"};
  const auto bad = run(options);
  ASSERT_FALSE(bad);
  EXPECT_NE(bad.error().message.find("exited with status 3: bad"), std::string::npos)
      << bad.error().message;
}

TEST(WorldProcess, RunEndsAProgramThatTakesTooLong) {
  EXPECT_EQ(run(sleeper(), milliseconds(50)).error().code, Errc::timed_out);
}

TEST(WorldProcess, InheritsNoFileButItsThree) {
  const UniqueFd leaky(::open("/dev/null", O_RDONLY));
  SpawnOptions options;
  options.argv = {"ls", "/proc/self/fd"};
  const auto listed = run(options);
  ASSERT_TRUE(listed);
  EXPECT_EQ(*listed, "0\n1\n2\n3\n");  // 3 is the folder that ls reads
}

// ---- namespaces

TEST(WorldNet, ProcessesLiveInTheirNamespace) {
  auto net = NetNamespace::make("n");
  ASSERT_TRUE(net) << net.error().message;
  EXPECT_NE(net->inode(), own_namespace("net"));
  EXPECT_TRUE(net->processes().empty());
  auto process = Process::spawn(sleeper(&*net));
  ASSERT_TRUE(process);
  EXPECT_EQ(net->processes(), std::vector{process->pid()});
}

TEST(WorldNet, SysShowsTheNamespacesOwnLinks) {
  auto net = NetNamespace::make("n");
  ASSERT_TRUE(net);
  ASSERT_TRUE(net->add_bridge("only-here"));
  SpawnOptions options;
  options.argv = {"ls", "/sys/class/net"};
  options.net = &*net;
  const auto listed = run(options);
  ASSERT_TRUE(listed);
  EXPECT_NE(listed->find("only-here"), std::string::npos) << *listed;
  options.net = nullptr;
  const auto outside = run(options);
  ASSERT_TRUE(outside);
  EXPECT_EQ(outside->find("only-here"), std::string::npos) << *outside;
}

TEST(WorldNet, AShapedLinkHasATokenBucket) {
  auto net = NetNamespace::make("n");
  auto peer = NetNamespace::make("p");
  ASSERT_TRUE(net && peer);
  ASSERT_TRUE(net->add_veth("left", *peer, "right"));
  const auto shaped = net->shape("left", "10mbit");
  ASSERT_TRUE(shaped) << shaped.error().message;
  const auto shown = net->tc({"qdisc", "show", "dev", "left"});
  ASSERT_TRUE(shown);
  EXPECT_NE(shown->find("tbf"), std::string::npos) << *shown;
  EXPECT_NE(shown->find("10Mbit"), std::string::npos) << *shown;
}

TEST(WorldNet, AWrongCommandQuotesIpAndTheNamespace) {
  auto net = NetNamespace::make("somewhere");
  ASSERT_TRUE(net);
  const auto wrong = net->add_address("nothing", "10.0.0.1/24");
  ASSERT_FALSE(wrong);
  EXPECT_NE(wrong.error().message.find("somewhere"), std::string::npos);
  EXPECT_NE(wrong.error().message.find("nothing"), std::string::npos);
}

// ---- the world

// Sends datagrams until one arrives, or not for `patience`.
bool reaches(const NetNamespace& from, const NetNamespace& to, const char* address,
             milliseconds patience) {
  auto sender = from.open_socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
  auto receiver = to.open_socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
  if (!sender || !receiver) return false;
  sockaddr_in target{};
  target.sin_family = AF_INET;
  target.sin_port = htons(9999);
  ::inet_pton(AF_INET, address, &target.sin_addr);
  if (::bind(receiver->get(), reinterpret_cast<sockaddr*>(&target), sizeof target) != 0)
    return false;
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (std::chrono::steady_clock::now() < deadline) {
    ::sendto(sender->get(), "x", 1, 0, reinterpret_cast<sockaddr*>(&target), sizeof target);
    pollfd waiting{receiver->get(), POLLIN, 0};
    if (::poll(&waiting, 1, 20) > 0) return true;
  }
  return false;
}

class WorldTest : public testing::Test {
 protected:
  void SetUp() override {
    auto made = World::make({});
    ASSERT_TRUE(made) << made.error().message;
    world_.emplace(std::move(*made));
  }
  std::optional<World> world_;
};

TEST_F(WorldTest, HostsReachEachOtherOverTheirCable) {
  EXPECT_TRUE(reaches(world_->alpha().net(), world_->beta().net(), "10.77.0.2", seconds(3)));
  EXPECT_TRUE(reaches(world_->beta().net(), world_->alpha().net(), "10.77.0.1", seconds(3)));
}

TEST_F(WorldTest, ABridgedMachineReachesTheClientUntilItsHostsCablesAreCut) {
  const auto& alpha = world_->alpha();
  auto machine = NetNamespace::make("machine");
  ASSERT_TRUE(machine);
  ASSERT_TRUE(alpha.net().add_veth("tnd0", *machine, "eth0"));
  ASSERT_TRUE(alpha.net().join_bridge("tnd0", Host::kBridge));
  ASSERT_TRUE(machine->add_address("eth0", "10.88.0.10/24"));
  EXPECT_TRUE(reaches(*machine, world_->lan(), World::kClientAddress, seconds(3)));

  ASSERT_TRUE(world_->alpha().cut_links());
  EXPECT_FALSE(reaches(*machine, world_->lan(), World::kClientAddress, milliseconds(300)));
  EXPECT_FALSE(reaches(alpha.net(), world_->beta().net(), "10.77.0.2", milliseconds(300)));

  ASSERT_TRUE(world_->alpha().restore_links());
  EXPECT_TRUE(reaches(*machine, world_->lan(), World::kClientAddress, seconds(3)));
  EXPECT_TRUE(reaches(alpha.net(), world_->beta().net(), "10.77.0.2", seconds(3)));
}

TEST_F(WorldTest, TheWitnessSeesFromWhichHostAMachineSends) {
  auto machine = NetNamespace::make("machine");
  ASSERT_TRUE(machine);
  const auto& beta = world_->beta().net();
  ASSERT_TRUE(beta.add_veth("tnd0", *machine, "eth0"));
  ASSERT_TRUE(beta.join_bridge("tnd0", Host::kBridge));
  ASSERT_TRUE(machine->ip({"link", "set", "dev", "eth0", "address", "52:54:00:12:34:56"}));
  ASSERT_TRUE(machine->add_address("eth0", "10.88.0.10/24"));
  auto witness = FrameWitness::start(world_->lan(), {World::kAlphaPort, World::kBetaPort},
                                     *parse_mac("52:54:00:12:34:56"));
  ASSERT_TRUE(witness) << witness.error().message;
  (*witness)->mark();
  ASSERT_TRUE(reaches(*machine, world_->lan(), World::kClientAddress, seconds(3)));
  // The frame has been delivered; the witness may need a moment to have counted it.
  const auto deadline = std::chrono::steady_clock::now() + seconds(3);
  while ((*witness)->sightings()[1].frames == 0 && std::chrono::steady_clock::now() < deadline)
    ::poll(nullptr, 0, 1);
  const auto seen = (*witness)->sightings();
  EXPECT_EQ(seen[0].frames, 0U);
  EXPECT_GT(seen[1].frames, 0U);
  ASSERT_TRUE(seen[1].first && seen[1].last);
  EXPECT_LE(*seen[1].first, *seen[1].last);
  (*witness)->mark();
}

TEST_F(WorldTest, KillEverythingEndsAllProcessesOfThatHostOnly) {
  std::vector<Process> on_alpha;
  for (int i = 0; i < 3; ++i) {
    auto process = Process::spawn(sleeper(&world_->alpha().net()));
    ASSERT_TRUE(process);
    on_alpha.push_back(std::move(*process));
  }
  // One that has left its parent, as QEMU does.
  SpawnOptions orphan;
  orphan.argv = {"sh", "-c", "sleep 1000 & exit 0"};
  orphan.net = &world_->alpha().net();
  auto parent = Process::spawn(orphan);
  ASSERT_TRUE(parent);
  ASSERT_TRUE(parent->wait(seconds(5)));
  EXPECT_EQ(world_->alpha().net().processes().size(), 4U);
  auto on_beta = Process::spawn(sleeper(&world_->beta().net()));
  ASSERT_TRUE(on_beta);

  const auto killed = world_->alpha().kill_everything();
  ASSERT_TRUE(killed) << killed.error().message;
  EXPECT_TRUE(world_->alpha().net().processes().empty());
  for (auto& process : on_alpha) {
    const auto ended = process.wait(seconds(1));
    ASSERT_TRUE(ended);
    EXPECT_EQ(ended->value, SIGKILL);
  }
  EXPECT_TRUE(on_beta->running());
}

TEST_F(WorldTest, RemovesItsDirectoryUnlessItIsKept) {
  const auto directory = world_->directory();
  EXPECT_TRUE(std::filesystem::exists(directory / "alpha/run"));
  world_.reset();
  EXPECT_FALSE(std::filesystem::exists(directory));

  WorldOptions options;
  options.keep = true;
  std::filesystem::path kept;
  {
    auto world = World::make(options);
    ASSERT_TRUE(world);
    kept = world->directory();
  }
  EXPECT_TRUE(std::filesystem::exists(kept));
  std::filesystem::remove_all(kept);
}

TEST_F(WorldTest, ADaemonThatEndsAtOnceIsReportedWithItsLastWords) {
  const auto program = world_->directory() / "not-a-daemon";
  std::ofstream(program) << "#!/bin/sh\necho cannot do it >&2\nexit 4\n";
  std::filesystem::permissions(program, std::filesystem::perms::owner_all);
  DaemonOptions options;
  options.tandemd = program;
  const auto started = world_->alpha().start_daemon(options);
  ASSERT_FALSE(started);
  EXPECT_EQ(started.error().code, Errc::closed);
  EXPECT_NE(started.error().message.find("exited with status 4"), std::string::npos)
      << started.error().message;
  EXPECT_NE(started.error().message.find("cannot do it"), std::string::npos)
      << started.error().message;
}

// ---- the sandbox, entered by children of this program

// Runs `inside` in a sandbox of its own, as `uid` if not root, and returns the wait status of the
// process outside.
template <class F>
int in_new_sandbox(uid_t uid, F inside) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    if (uid != 0 && (::setgid(uid) != 0 || ::setuid(uid) != 0)) ::_exit(90);
    // Changing the user forbids others to look at the process; a program started anew allows it
    // again.
    ::prctl(PR_SET_DUMPABLE, 1);
    if (auto entered = enter_sandbox(); !entered) {
      std::fprintf(stderr, "%s\n", entered.error().message.c_str());
      ::_exit(91);
    }
    inside();
    ::_exit(92);
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  return status;
}

// Ends the process with 0 if this looks like a sandbox, else with the number of what does not.
void check_sandbox(ino_t outer_net, ino_t outer_processes) {
  if (::geteuid() != 0) ::_exit(1);
  if (own_namespace("net") == outer_net) ::_exit(2);
  if (own_namespace("pid") == outer_processes || ::getppid() != 1) ::_exit(3);
  std::ifstream init("/proc/1/comm");
  if (!init) ::_exit(4);
  auto net = NetNamespace::make("inner");
  if (!net) ::_exit(5);
  if (!net->add_bridge("br0")) ::_exit(6);
  if (net->processes() != std::vector<pid_t>{}) ::_exit(7);
  auto process = Process::spawn(sleeper(&*net));
  if (!process || net->processes().size() != 1) ::_exit(8);
  ::_exit(0);
}

TEST(WorldSandbox, IsAPrivateMachineForRoot) {
  const auto net = own_namespace("net");
  const auto processes = own_namespace("pid");
  EXPECT_EQ(in_new_sandbox(0, [&] { check_sandbox(net, processes); }), 0);
}

TEST(WorldSandbox, IsAPrivateMachineForAnOrdinaryUser) {
  const auto net = own_namespace("net");
  const auto processes = own_namespace("pid");
  const int status = in_new_sandbox(65534, [&] { check_sandbox(net, processes); });
  if (WIFEXITED(status) && WEXITSTATUS(status) == 90)
    GTEST_SKIP() << "this test runs as an ordinary user itself, and cannot become another";
  EXPECT_EQ(status, 0);
}

TEST(WorldSandbox, PassesTheExitStatusOut) {
  const int status = in_new_sandbox(0, [] { ::_exit(7); });
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 7);
  const int killed = in_new_sandbox(0, [] { ::raise(SIGKILL); });
  ASSERT_TRUE(WIFEXITED(killed));
  EXPECT_EQ(WEXITSTATUS(killed), 128 + SIGKILL);
}

// In a user namespace of its own that forbids further ones, as an ordinary user of it.
TEST(WorldSandbox, SaysHowToAllowItWhereUserNamespacesAreDisabled) {
  std::array<int, 2> mapped{};
  std::array<int, 2> said{};
  ASSERT_EQ(::pipe(mapped.data()), 0);
  ASSERT_EQ(::pipe(said.data()), 0);
  const pid_t pid = ::fork();
  if (pid == 0) {
    const auto say = [&](const std::string& text) {
      [[maybe_unused]] const ssize_t written = ::write(said[1], text.data(), text.size());
      ::_exit(0);
    };
    char byte = 0;
    if (::unshare(CLONE_NEWUSER) != 0) say("unshare");
    if (::write(said[1], "u", 1) != 1 || ::read(mapped[0], &byte, 1) != 1) say("no map");
    std::ofstream limit("/proc/sys/user/max_user_namespaces");
    limit << 0 << std::flush;
    if (!limit || ::setgid(1000) != 0 || ::setuid(1000) != 0) say("no user");
    const auto entered = enter_sandbox();
    say(entered ? "it was allowed" : entered.error().message);
  }
  ::close(said[1]);
  char byte = 0;
  ASSERT_EQ(::read(said[0], &byte, 1), 1);
  bool can_map = true;
  for (const auto* file : {"uid_map", "gid_map"}) {
    std::ofstream map("/proc/" + std::to_string(pid) + "/" + file);
    map << "0 0 65536" << std::flush;
    can_map = can_map && map.good();
  }
  if (!can_map) {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    GTEST_SKIP() << "this test runs as an ordinary user itself, and cannot make up another";
  }
  ASSERT_EQ(::write(mapped[1], "m", 1), 1);
  std::array<char, 512> text{};
  ASSERT_GT(::read(said[0], text.data(), text.size() - 1), 0);
  ::waitpid(pid, nullptr, 0);
  EXPECT_NE(std::string(text.data()).find("user.max_user_namespaces"), std::string::npos)
      << text.data();
}

// A sandbox whose processes, orphans in sessions of their own among them, all hold the write end of
// a pipe: its end of file says that the last one is gone.
struct CrowdedSandbox {
  pid_t outside = -1;
  UniqueFd pipe;
};

CrowdedSandbox start_crowded_sandbox() {
  std::array<int, 2> ends{};
  if (::pipe(ends.data()) != 0) return {};
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::close(ends[0]);
    if (!enter_sandbox()) ::_exit(91);
    for (int i = 0; i < 3; ++i) {
      if (::fork() == 0) {
        ::setsid();
        if (::fork() != 0) ::_exit(0);
        ::signal(SIGTERM, SIG_IGN);
        for (;;) ::pause();
      }
    }
    for (int i = 0; i < 3; ++i) ::wait(nullptr);
    [[maybe_unused]] const ssize_t written = ::write(ends[1], "r", 1);
    for (;;) ::pause();
  }
  ::close(ends[1]);
  CrowdedSandbox sandbox{pid, UniqueFd(ends[0])};
  char ready = 0;
  if (::read(ends[0], &ready, 1) != 1) return {};
  return sandbox;
}

bool all_gone(const CrowdedSandbox& sandbox) {
  pollfd waiting{sandbox.pipe.get(), POLLIN, 0};
  char byte = 0;
  return ::poll(&waiting, 1, 5000) == 1 && ::read(sandbox.pipe.get(), &byte, 1) == 0;
}

TEST(WorldSandbox, DiesWhollyWhenTheProcessOutsideIsKilled) {
  const auto sandbox = start_crowded_sandbox();
  ASSERT_GT(sandbox.outside, 0);
  ::kill(sandbox.outside, SIGKILL);
  ::waitpid(sandbox.outside, nullptr, 0);
  EXPECT_TRUE(all_gone(sandbox));
}

TEST(WorldSandbox, DiesWhollyWhenTheProgramInsideEnds) {
  const auto sandbox = start_crowded_sandbox();
  ASSERT_GT(sandbox.outside, 0);
  // SIGTERM is passed on to the program, which dies of it; its orphans ignore it.
  ::kill(sandbox.outside, SIGTERM);
  int status = 0;
  ::waitpid(sandbox.outside, &status, 0);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 128 + SIGTERM);
  EXPECT_TRUE(all_gone(sandbox));
}

}  // namespace
}  // namespace tandem::world
