// The local driver with real QEMU processes: start, failure to start, adopt, kill, taps, and a
// guest that boots.
//
// What needs taps runs in a child process with a user and a network namespace of its own: it works
// as root and as anybody else, and the host's network is never touched.
#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/write.hpp>
#include <cstring>
#include <fstream>
#include <functional>

#include "base/file.hpp"
#include "engine/hypervisor/local_hypervisor.hpp"
#include "engine/hypervisor/process.hpp"
#include "engine/hypervisor/qemu_probe.hpp"
#include "qmp/commands.hpp"

namespace tandem::hypervisor {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

/// Runs a coroutine to its end on a context of its own.
template <class T>
T run(Task<T> task) {
  asio::io_context io;
  std::optional<T> result;
  std::exception_ptr failure;
  asio::co_spawn(io, std::move(task), [&](std::exception_ptr e, T value) {
    failure = e;
    result.emplace(std::move(value));
  });
  io.run();
  if (failure) std::rethrow_exception(failure);
  return *std::move(result);
}

QemuConfig test_config() {
  QemuConfig config;
  if (const char* binary = ::getenv("TANDEM_QEMU")) config.binary = binary;
  config.accel =
      "tcg";  // What these tests are about is the same under KVM, but here it cannot be had.
  config.tcg_shim = TANDEM_TCG_SHIM;
  return config;
}

/// A QEMU that is never left behind, however the test ends.
struct ScopedVm {
  explicit ScopedVm(VmProcess p) : process(std::move(p)) {}
  ScopedVm(ScopedVm&&) = default;
  ~ScopedVm() {
    if (process.pidfd) static_cast<void>(send_kill(process.pidfd.get()));
  }
  VmProcess process;
};

class LocalHypervisorTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto config = test_config();
    if (::access(config.binary.c_str(), X_OK) != 0) {
      GTEST_SKIP() << config.binary << " is missing (package qemu-system-x86)";
    }
    char name[] = "/tmp/tandem-hypervisor-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
    const auto probed = run(probe(config));
    ASSERT_TRUE(probed) << probed.error().message;
    probe_ = *probed;
  }
  void TearDown() override {
    std::error_code ec;
    if (!folder_.empty()) fs::remove_all(folder_, ec);
  }

  LocalHypervisor hypervisor() const { return {test_config(), probe_, folder_ / "run"}; }

  /// A VM that does nothing: its firmware finds no disk.
  static VmDefinition idle_vm() {
    VmDefinition vm;
    vm.name = "idle";
    vm.memory_mib = 32;
    return vm;
  }

  static VmDefinition vm_with_tap() {
    auto vm = idle_vm();
    vm.nics = {{"n0", "52:54:00:00:00:01", "tnd-test0", ""}};
    return vm;
  }

  static Result<ScopedVm> start(LocalHypervisor& driver, const VmDefinition& vm,
                                StartMode mode = StartMode::run) {
    auto started = run(driver.start(vm, mode));
    if (!started) return started.error();
    return ScopedVm(*std::move(started));
  }

  static Task<Result<qmp::Status>> ask_status(std::string socket) {
    auto client = co_await qmp::Client::connect(socket);
    if (!client) co_return client.error();
    co_return co_await qmp::query_status(**client);
  }

  fs::path folder_;
  QemuProbe probe_;
};

TEST_F(LocalHypervisorTest, StartsAVmThatRunsAndKillsIt) {
  auto driver = hypervisor();
  auto vm = start(driver, idle_vm());
  ASSERT_TRUE(vm) << vm.error().message;
  const auto status = run(ask_status(vm->process.qmp_socket));
  ASSERT_TRUE(status) << status.error().message;
  EXPECT_EQ(status->state, "running");
  EXPECT_EQ(process_id(vm->process.process.pid), vm->process.process);
  EXPECT_FALSE(has_ended(vm->process.pidfd.get()));

  const auto killed = run(driver.kill(vm->process));
  ASSERT_TRUE(killed) << killed.error().message;
  EXPECT_TRUE(has_ended(vm->process.pidfd.get()));
  EXPECT_FALSE(fs::exists(vm->process.qmp_socket));
  EXPECT_TRUE(run(driver.kill(vm->process))) << "killing what is dead is no error";
  EXPECT_TRUE(start(driver, idle_vm())) << "a VM that was killed can be started again";
}

TEST_F(LocalHypervisorTest, StartsASecondaryThatWaitsForItsState) {
  auto driver = hypervisor();
  auto vm = start(driver, idle_vm(), StartMode::incoming);
  ASSERT_TRUE(vm) << vm.error().message;
  const auto status = run(ask_status(vm->process.qmp_socket));
  ASSERT_TRUE(status) << status.error().message;
  EXPECT_EQ(status->state, "inmigrate");
}

TEST_F(LocalHypervisorTest, RefusesToStartAVmTwice) {
  auto driver = hypervisor();
  auto first = start(driver, idle_vm());
  ASSERT_TRUE(first) << first.error().message;
  auto other_daemon = hypervisor();
  const auto second = start(other_daemon, idle_vm());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Errc::conflict);
  EXPECT_THAT(second.error().message,
              AllOf(HasSubstr("VM idle"), HasSubstr(std::to_string(first->process.process.pid))));
  EXPECT_TRUE(run(ask_status(first->process.qmp_socket))) << "the first one must be left alone";
}

TEST_F(LocalHypervisorTest, QuotesQemuAboutAMissingKernelAndLeavesNothing) {
  auto driver = hypervisor();
  auto vm = idle_vm();
  vm.kernel = "/nonexistent/vmlinux";
  const auto started = start(driver, vm);
  ASSERT_FALSE(started);
  EXPECT_EQ(started.error().code, Errc::refused);
  EXPECT_THAT(started.error().message, AllOf(HasSubstr("VM idle"), HasSubstr("could not"),
                                             HasSubstr("/nonexistent/vmlinux")));
  EXPECT_FALSE(fs::exists(folder_ / "run" / "idle"));
  EXPECT_TRUE(start(driver, idle_vm())) << "the failed start must not stand in the way of the next";
}

TEST_F(LocalHypervisorTest, QuotesQemuAboutABadArgument) {
  auto driver = hypervisor();
  auto vm = idle_vm();
  vm.extra_args = {"-no-such-option"};
  const auto started = start(driver, vm);
  ASSERT_FALSE(started);
  EXPECT_THAT(started.error().message, AllOf(HasSubstr("VM idle"), HasSubstr("-no-such-option")));
}

TEST_F(LocalHypervisorTest, NamesAQemuThatDoesNotExist) {
  auto config = test_config();
  config.binary = "/nonexistent/qemu";
  LocalHypervisor driver(config, probe_, folder_ / "run");
  const auto started = start(driver, idle_vm());
  ASSERT_FALSE(started);
  EXPECT_EQ(started.error().code, Errc::not_found);
  EXPECT_THAT(started.error().message, HasSubstr("/nonexistent/qemu"));
  EXPECT_FALSE(fs::exists(folder_ / "run" / "idle"));
}

TEST_F(LocalHypervisorTest, RefusesARunDirectoryTooLongForASocket) {
  LocalHypervisor driver(test_config(), probe_, folder_ / std::string(100, 'x'));
  const auto started = start(driver, idle_vm());
  ASSERT_FALSE(started);
  EXPECT_EQ(started.error().code, Errc::invalid_input);
}

TEST_F(LocalHypervisorTest, GivesQemuItsOwnSessionAPrivateFolderAndNoStrayDescriptors) {
  // As a library that does not know about O_CLOEXEC would leave it open.
  const UniqueFd stray(::memfd_create("stray-descriptor", 0));
  ASSERT_TRUE(stray);
  auto driver = hypervisor();
  auto vm = start(driver, idle_vm());
  ASSERT_TRUE(vm) << vm.error().message;
  const auto pid = vm->process.process.pid;
  EXPECT_NE(::getsid(pid), ::getsid(0));
  struct stat folder {};
  ASSERT_EQ(::stat((folder_ / "run" / "idle").c_str(), &folder), 0);
  EXPECT_EQ(folder.st_mode & 0777u, 0700u);
  std::size_t seen = 0;
  for (const auto& entry : fs::directory_iterator("/proc/" + std::to_string(pid) + "/fd")) {
    std::error_code ec;
    const auto target = fs::read_symlink(entry, ec).string();
    EXPECT_THAT(target, Not(HasSubstr("stray-descriptor")));
    if (target.ends_with("/lock") || target.ends_with("/serial.log")) ++seen;
  }
  EXPECT_EQ(seen, 2u) << "the check looked at the right process";
}

TEST_F(LocalHypervisorTest, PreloadsTheShimWhereTheVersionNeedsIt) {
  auto driver = hypervisor();
  auto vm = start(driver, idle_vm());
  ASSERT_TRUE(vm) << vm.error().message;
  const auto maps =
      read_file("/proc/" + std::to_string(vm->process.process.pid) + "/maps", 8u << 20);
  ASSERT_TRUE(maps) << maps.error().message;
  EXPECT_EQ(maps->find("libtandem-tcg-shim") != std::string::npos, probe_.shim);
}

TEST_F(LocalHypervisorTest, RefusesToRunWithoutTheShimWhereItIsNeeded) {
  auto needs_it = probe_;
  needs_it.shim = true;
  for (const auto* shim : {"", "/nonexistent/shim.so"}) {
    auto config = test_config();
    config.tcg_shim = shim;
    LocalHypervisor driver(config, needs_it, folder_ / "run");
    const auto started = start(driver, idle_vm());
    ASSERT_FALSE(started) << shim;
    EXPECT_THAT(started.error().message, HasSubstr("libtandem-tcg-shim.so"));
  }
}

TEST_F(LocalHypervisorTest, AdoptsAVmWhoseDaemonHasDied) {
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe(pipe.data()), 0);
  const UniqueFd from_daemon(pipe[0]);
  const pid_t daemon = ::fork();
  ASSERT_GE(daemon, 0);
  if (daemon == 0) {
    auto driver = hypervisor();
    auto started = run(driver.start(idle_vm(), StartMode::run));
    const ProcessId process = started ? started->process : ProcessId{};
    const bool told = ::write(pipe[1], &process, sizeof process) == sizeof process;
    ::_exit(started && told ? 0 : 1);
  }
  ::close(pipe[1]);
  ProcessId process;
  ASSERT_EQ(::read(from_daemon.get(), &process, sizeof process),
            static_cast<ssize_t>(sizeof process));
  int status = -1;
  ASSERT_EQ(::waitpid(daemon, &status, 0), daemon);
  ASSERT_EQ(status, 0);

  auto driver = hypervisor();
  auto adopted = driver.adopt("idle", process);
  ASSERT_TRUE(adopted) << adopted.error().message;
  ScopedVm vm(*std::move(adopted));
  const auto alive = run(ask_status(vm.process.qmp_socket));
  ASSERT_TRUE(alive) << alive.error().message;
  EXPECT_EQ(alive->state, "running");
  const auto again = start(driver, idle_vm());
  ASSERT_FALSE(again) << "it still counts as running";
  EXPECT_EQ(again.error().code, Errc::conflict);
  EXPECT_TRUE(run(driver.kill(vm.process)));

  const auto gone = driver.adopt("idle", process);
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().code, Errc::not_found);
}

// ----------------------------------------------------------------------------------------------
// taps

void write_text(const char* path, const std::string& text) {
  std::ofstream(path) << text;
}

/// Root of a new user namespace and, if asked for, in a new network namespace that belongs to it.
bool enter_namespaces(int flags) {
  const auto uid = std::to_string(::geteuid()), gid = std::to_string(::getegid());
  if (::unshare(CLONE_NEWUSER | flags) != 0) return false;
  write_text("/proc/self/setgroups", "deny");
  write_text("/proc/self/uid_map", "0 " + uid + " 1");
  write_text("/proc/self/gid_map", "0 " + gid + " 1");
  return ::geteuid() == 0;
}

constexpr int exit_passed = 0, exit_failed = 1, exit_skipped = 77;

/// Runs `body` in a child with a network of its own and takes over its verdict.
void in_own_network(const std::function<void()>& body) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    if (!enter_namespaces(CLONE_NEWNET)) ::_exit(exit_skipped);
    if (const UniqueFd tun(::open("/dev/net/tun", O_RDWR | O_CLOEXEC)); !tun) ::_exit(exit_skipped);
    body();
    std::fflush(nullptr);
    ::_exit(testing::Test::HasFailure() ? exit_failed : exit_passed);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status)) << "the test's child was ended by signal " << WTERMSIG(status);
  if (WEXITSTATUS(status) == exit_skipped) {
    GTEST_SKIP() << "this machine has no user namespaces, or no /dev/net/tun for this user";
  }
  EXPECT_EQ(WEXITSTATUS(status), exit_passed) << "see the failures printed above";
}

/// What `ip` says about an interface; empty if there is none.
std::string describe_link(const std::string& name) {
  std::string text;
  const auto command = "ip -o link show dev " + name + " 2>/dev/null";
  FILE* pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) return text;
  char line[1024];
  while (std::fgets(line, sizeof line, pipe) != nullptr) text += line;
  ::pclose(pipe);
  return text;
}

void add_bridge(const char* name) {
  const UniqueFd control(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::ioctl(control.get(), SIOCBRADDBR, name), 0) << std::strerror(errno);
}

/// Gives the host's end of a wire an address.
void set_address(const char* name, const char* address) {
  const UniqueFd control(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::strncpy(request.ifr_name, name, IFNAMSIZ - 1);
  sockaddr_in in{};
  in.sin_family = AF_INET;
  ASSERT_EQ(::inet_pton(AF_INET, address, &in.sin_addr), 1);
  std::memcpy(&request.ifr_addr, &in, sizeof in);
  ASSERT_EQ(::ioctl(control.get(), SIOCSIFADDR, &request), 0) << std::strerror(errno);
  in.sin_addr.s_addr = htonl(0xffffff00);
  std::memcpy(&request.ifr_netmask, &in, sizeof in);
  ASSERT_EQ(::ioctl(control.get(), SIOCSIFNETMASK, &request), 0) << std::strerror(errno);
}

TEST_F(LocalHypervisorTest, MakesTapsThatLiveAndDieWithQemu) {
  in_own_network([&] {
    auto driver = hypervisor();
    auto vm = start(driver, vm_with_tap());
    ASSERT_TRUE(vm) << vm.error().message;
    EXPECT_THAT(describe_link("tnd-test0"), AllOf(HasSubstr(",UP"), Not(HasSubstr("master"))));
    ASSERT_TRUE(run(driver.kill(vm->process)));
    auto again = start(driver, vm_with_tap());
    ASSERT_TRUE(again) << "the VM cannot be started again at once: " << again.error().message;
    ASSERT_TRUE(run(driver.kill(again->process)));
    // The kernel may remove the device a moment after the process has ended.
    const auto deadline = std::chrono::steady_clock::now() + 2s;
    while (!describe_link("tnd-test0").empty() && std::chrono::steady_clock::now() < deadline) {
    }
    EXPECT_EQ(describe_link("tnd-test0"), "");
  });
}

TEST_F(LocalHypervisorTest, LeavesNoTapAfterAFailedStart) {
  in_own_network([&] {
    auto driver = hypervisor();
    auto vm = vm_with_tap();
    vm.extra_args = {"-no-such-option"};
    ASSERT_FALSE(start(driver, vm));
    EXPECT_EQ(describe_link("tnd-test0"), "");
  });
}

TEST_F(LocalHypervisorTest, SaysThatATapIsInUse) {
  in_own_network([&] {
    auto driver = hypervisor();
    auto first = start(driver, vm_with_tap());
    ASSERT_TRUE(first) << first.error().message;
    auto vm = vm_with_tap();
    vm.name = "other";
    const auto second = start(driver, vm);
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, Errc::conflict);
    EXPECT_THAT(second.error().message, AllOf(HasSubstr("VM other"), HasSubstr("tnd-test0")));
    EXPECT_TRUE(run(ask_status(first->process.qmp_socket)));
  });
}

TEST_F(LocalHypervisorTest, NamesTheCapabilityThatATapNeeds) {
  in_own_network([&] {
    // In a second user namespace, which has no say in the network namespace of the first.
    ASSERT_TRUE(enter_namespaces(0));
    auto driver = hypervisor();
    const auto vm = start(driver, vm_with_tap());
    ASSERT_FALSE(vm);
    EXPECT_EQ(vm.error().code, Errc::permission);
    EXPECT_THAT(vm.error().message,
                AllOf(HasSubstr("VM idle"), HasSubstr("tnd-test0"), HasSubstr("CAP_NET_ADMIN")));
    EXPECT_FALSE(fs::exists(folder_ / "run" / "idle"));
  });
}

TEST_F(LocalHypervisorTest, JoinsATapToABridgeAndTakesItOff) {
  in_own_network([&] {
    add_bridge("br-a");
    add_bridge("br-b");
    auto driver = hypervisor();
    auto vm = start(driver, vm_with_tap());
    ASSERT_TRUE(vm) << vm.error().message;
    for (const std::string bridge : {"br-a", "br-a", "br-b"}) {
      const auto joined = set_bridge("tnd-test0", bridge);
      ASSERT_TRUE(joined) << joined.error().message;
      EXPECT_THAT(describe_link("tnd-test0"), HasSubstr("master " + bridge));
    }
    for (int time = 0; time < 2; ++time) {
      const auto taken_off = set_bridge("tnd-test0", "");
      ASSERT_TRUE(taken_off) << taken_off.error().message;
      EXPECT_THAT(describe_link("tnd-test0"), Not(HasSubstr("master")));
    }
  });
}

TEST_F(LocalHypervisorTest, SaysWhyATapCannotJoinABridge) {
  in_own_network([&] {
    add_bridge("br-a");
    auto driver = hypervisor();
    auto vm = start(driver, vm_with_tap());
    ASSERT_TRUE(vm) << vm.error().message;
    const auto refusal = [](const std::string& tap, const std::string& bridge) {
      const auto joined = set_bridge(tap, bridge);
      return joined ? Error{Errc::io, "it was joined"} : joined.error();
    };
    EXPECT_EQ(refusal("tnd-test0", "br-none").code, Errc::not_found);
    EXPECT_THAT(refusal("tnd-test0", "br-none").message, HasSubstr("br-none"));
    EXPECT_EQ(refusal("no-such-tap", "br-a").code, Errc::not_found);
    EXPECT_THAT(refusal("no-such-tap", "br-a").message, HasSubstr("no-such-tap"));
    EXPECT_EQ(refusal("tnd-test0", "sixteencharacter").code, Errc::invalid_input);
    EXPECT_EQ(refusal("tnd-test0", "lo").code, Errc::invalid_input);
    EXPECT_THAT(refusal("tnd-test0", "lo").message, HasSubstr("not a bridge"));
    ASSERT_TRUE(enter_namespaces(0));
    EXPECT_EQ(refusal("tnd-test0", "br-a").code, Errc::permission);
    EXPECT_THAT(refusal("tnd-test0", "br-a").message, HasSubstr("CAP_NET_ADMIN"));
  });
}

// --------------------------------------------------------------------------------- the guest image

fs::path guest_folder() {
  const char* folder = ::getenv("TANDEM_GUEST_DIR");
  return folder != nullptr ? folder : TANDEM_GUEST_DEFAULT_DIR;
}

/// Reads the serial log every 20 ms: QEMU writes a plain file, which nobody can await.
Task<Result<void>> wait_for_serial(fs::path serial, std::string text,
                                   std::chrono::seconds timeout) {
  asio::steady_timer timer(co_await asio::this_coro::executor);
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  std::string shown;
  while (std::chrono::steady_clock::now() < deadline) {
    auto said = read_file(serial);
    if (!said) co_return said.error();
    shown = *said;
    if (shown.find(text) != std::string::npos) co_return Result<void>();
    timer.expires_after(20ms);
    const auto [ec] = co_await timer.async_wait(use_tuple);
    if (ec) break;
  }
  co_return Error{Errc::timed_out, "no " + text + " in what the guest says: " + shown};
}

Task<Result<std::string>> ask_redis(std::string address, std::string command) {
  asio::ip::tcp::socket socket(co_await asio::this_coro::executor);
  const asio::ip::tcp::endpoint to(asio::ip::make_address(address), 6379);
  const auto [connect_error] = co_await socket.async_connect(to, use_tuple);
  if (connect_error) co_return Error{Errc::io, "connect: " + connect_error.message()};
  command += "\r\n";
  const auto [write_error, written] =
      co_await asio::async_write(socket, asio::buffer(command), use_tuple);
  if (write_error) co_return Error{Errc::io, "write: " + write_error.message()};
  std::string answer;
  auto buffer = asio::dynamic_buffer(answer, 4096);
  const auto [read_error, read] =
      co_await asio::async_read_until(socket, buffer, "\r\n", use_tuple);
  if (read_error) co_return Error{Errc::io, "read: " + read_error.message()};
  co_return answer;
}

TEST_F(LocalHypervisorTest, BootsTheRedisGuest) {
  const auto guest = guest_folder();
  if (!fs::exists(guest / "redis.cpio.gz")) {
    GTEST_SKIP() << "no guest image in " << guest << ": run scripts/guest-image";
  }
  in_own_network([&] {
    auto cmdline = read_file(guest / "cmdline.txt");
    ASSERT_TRUE(cmdline) << cmdline.error().message;
    cmdline->erase(cmdline->find_last_not_of('\n') + 1);
    VmDefinition vm = vm_with_tap();
    vm.name = "redis";
    vm.memory_mib = 256;
    vm.kernel = fs::absolute(guest / "vmlinux").string();
    vm.initrd = fs::absolute(guest / "redis.cpio.gz").string();
    vm.cmdline = *cmdline + " tandem.ip=10.88.0.10/24";
    auto driver = hypervisor();
    auto started = start(driver, vm);
    ASSERT_TRUE(started) << started.error().message;
    set_address("tnd-test0", "10.88.0.1");
    const auto booted = run(wait_for_serial(started->process.serial, "BOOTED", 60s));
    ASSERT_TRUE(booted) << booted.error().message;
    const auto answer = run(ask_redis("10.88.0.10", "PING"));
    ASSERT_TRUE(answer) << answer.error().message;
    EXPECT_EQ(*answer, "+PONG\r\n");
  });
}

// --------------------------------------------------------------------------------------- the probe

/// The version in the monitor's greeting, the other source of it.
Task<Result<std::string>> greeting(std::string socket) {
  auto client = co_await qmp::Client::connect(socket);
  if (!client) co_return client.error();
  co_return qmp::to_string((*client)->version());
}

TEST_F(LocalHypervisorTest, ProbesVersionAndAccelerator) {
  EXPECT_GE(probe_.version.major, 6);
  EXPECT_EQ(probe_.accelerator, Accelerator::tcg);
  EXPECT_EQ(probe_.shim, probe_.version.major < 11);
  auto driver = hypervisor();
  auto vm = start(driver, idle_vm());
  ASSERT_TRUE(vm) << vm.error().message;
  const auto greeted = run(greeting(vm->process.qmp_socket));
  ASSERT_TRUE(greeted) << greeted.error().message;
  EXPECT_EQ(*greeted, qmp::to_string(probe_.version));
}

TEST_F(LocalHypervisorTest, ProbesAnAcceleratorByBootingUnderIt) {
  const auto config = test_config();
  const auto tcg = run(try_boot(config, "tcg"));
  ASSERT_TRUE(tcg) << tcg.error().message;
  EXPECT_TRUE(tcg->works) << tcg->reason;
  const auto none = run(try_boot(config, "no-such-accelerator"));
  ASSERT_TRUE(none) << none.error().message;
  EXPECT_FALSE(none->works);
  EXPECT_THAT(none->reason, HasSubstr("no-such-accelerator"));
}

TEST_F(LocalHypervisorTest, ChoosesKvmExactlyWhenItBoots) {
  auto config = test_config();
  config.accel = "auto";
  const auto chosen = run(probe(config));
  ASSERT_TRUE(chosen) << chosen.error().message;
  EXPECT_NE(chosen->accelerator_reason, "");
  config.accel = "kvm";
  const auto forced = run(probe(config));
  if (chosen->accelerator == Accelerator::kvm) {
    ASSERT_TRUE(forced) << forced.error().message;
    EXPECT_FALSE(forced->shim);
  } else {
    ASSERT_FALSE(forced) << "KVM was said not to work: " << chosen->accelerator_reason;
    EXPECT_EQ(forced.error().code, Errc::unavailable);
  }
}

TEST_F(LocalHypervisorTest, RefusesToProbeWhatIsNotQemu) {
  auto config = test_config();
  config.binary = "/bin/true";
  const auto other = run(probe(config));
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().code, Errc::protocol);
  config = test_config();
  config.accel = "hvf";
  const auto accel = run(probe(config));
  ASSERT_FALSE(accel);
  EXPECT_EQ(accel.error().code, Errc::invalid_input);
}

}  // namespace
}  // namespace tandem::hypervisor
