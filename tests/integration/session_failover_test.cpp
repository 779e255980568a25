// A pair of sessions over lanes in memory, between two real QEMUs: the primary's host dies in the
// middle of sending a checkpoint, after a chosen byte. The secondary goes on from the checkpoint
// before, or from this one if it was whole.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <filesystem>
#include <fstream>
#include <iostream>

#include "base/file.hpp"
#include "engine/arbiter/local.hpp"
#include "engine/hypervisor/local_hypervisor.hpp"
#include "engine/hypervisor/process.hpp"
#include "engine/session/primary_session.hpp"
#include "engine/session/secondary_session.hpp"
#include "engine/transport/memory.hpp"
#include "qmp/commands.hpp"

namespace tandem::session {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

constexpr Checkpoint kCutCheckpoint = 4;
constexpr auto kBootLimit = 60s;
constexpr auto kTestLimit = 100s;

/// Passes everything on until the host of this end dies: `fraction` of the way through the payload
/// and digest of one checkpoint, give or take some bytes.
class DyingLane final : public transport::Lane {
 public:
  struct Cut {
    double fraction;
    std::int64_t bytes;
  };
  DyingLane(std::unique_ptr<transport::Lane> lane, Cut cut, std::function<void()> die)
      : lane_(std::move(lane)), cut_(cut), die_(std::move(die)) {}

  Task<Result<void>> send(std::span<const std::byte> first,
                          std::span<const std::byte> second) override {
    for (const auto piece : {first, second}) {
      if (piece.empty()) continue;
      auto sendable = piece;
      if (left_) sendable = piece.first(std::min(piece.size(), *left_));
      const auto sent = co_await lane_->send(sendable);
      if (!sent) co_return sent.error();
      if (left_) {
        *left_ -= sendable.size();
        if (*left_ == 0) {
          dead_ = true;
          die_();
          co_return Error{Errc::closed, "the host is dead"};
        }
      } else {
        look_for_the_cut(piece);
      }
    }
    co_return Result<void>();
  }
  Task<Result<void>> receive(std::span<std::byte> into) override {
    co_return co_await lane_->receive(into);
  }
  void close() noexcept override { lane_->close(); }

  [[nodiscard]] bool dead() const noexcept { return dead_; }

 private:
  void look_for_the_cut(std::span<const std::byte> piece) {
    if (piece.size() != wire::frame_header_size) return;
    const auto header = wire::decode_frame(piece.first<wire::frame_header_size>(),
                                           wire::LaneKind::bulk, UINT64_MAX);
    if (!header || header->type != wire::FrameType::checkpoint) return;
    if (header->number != kCutCheckpoint) return;
    const auto length = static_cast<std::int64_t>(header->length + wire::digest_size);
    const auto at =
        static_cast<std::int64_t>(static_cast<double>(length) * cut_.fraction) + cut_.bytes;
    left_ = static_cast<std::size_t>(std::clamp<std::int64_t>(at, 1, length));
  }

  std::unique_ptr<transport::Lane> lane_;
  Cut cut_;
  std::function<void()> die_;
  std::optional<std::size_t> left_;
  bool dead_ = false;
};

/// The arbiter as a host sees it that has died: it gets no answer any more.
class UnreachableArbiter final : public arbiter::Arbiter {
 public:
  Task<Result<std::uint64_t>> establish(std::string, std::string, std::string) override {
    co_return silence();
  }
  Task<Result<arbiter::Verdict>> claim_solo(std::string, std::uint64_t, std::string) override {
    co_return silence();
  }
  Task<Result<arbiter::Verdict>> claim_start(std::string, std::string) override {
    co_return silence();
  }
  Task<Result<void>> retire(std::string, std::string) override { co_return silence(); }
  Task<Result<std::optional<arbiter::Record>>> look(std::string) override { co_return silence(); }

 private:
  static Error silence() { return {Errc::unavailable, "the arbiter does not answer"}; }
};

struct Case {
  const char* name;
  DyingLane::Cut cut;
  Checkpoint goes_on_from;
};
void PrintTo(const Case& chosen, std::ostream* out) {
  *out << chosen.name;
}

class SessionFailover : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const char* dir = ::getenv("TANDEM_GUEST_DIR");
    guest_ = dir != nullptr ? dir : TANDEM_GUEST_DEFAULT_DIR;
    if (!fs::exists(guest_ / "vmlinux")) {
      GTEST_SKIP() << "no guest image in " << guest_ << "; scripts/guest-image makes it";
    }
    if (!fs::exists(qemu_.binary)) GTEST_SKIP() << qemu_.binary << " is missing";
    qemu_.accel = "tcg";
    qemu_.tcg_shim = TANDEM_TCG_SHIM;
    std::string name = "/tmp/tnd-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
    fs::create_directories(folder_ / "arbiter");
  }
  void TearDown() override {
    std::error_code ignored;
    if (!folder_.empty()) fs::remove_all(folder_, ignored);
  }

  /// A host: its VM's process and monitor.
  struct Side {
    std::string name;
    std::unique_ptr<hypervisor::LocalHypervisor> driver;
    hypervisor::VmProcess process;
    std::shared_ptr<qmp::Client> qmp;
    ~Side() {
      if (process.pidfd) (void)hypervisor::send_kill(process.pidfd.get());
    }
  };

  static Task<void> kill(Side& side) { (void)co_await side.driver->kill(side.process); }

  Task<Result<void>> start(Side& side, const hypervisor::QemuProbe& probe,
                           hypervisor::StartMode mode) {
    side.driver = std::make_unique<hypervisor::LocalHypervisor>(qemu_, probe, folder_ / side.name);
    hypervisor::VmDefinition vm;
    vm.name = "demo";
    vm.memory_mib = kMemoryMib;
    vm.kernel = guest_ / "vmlinux";
    vm.initrd = guest_ / "redis.cpio.gz";
    std::ifstream cmdline(guest_ / "cmdline.txt");
    std::getline(cmdline, vm.cmdline);
    vm.cmdline += " tandem.dirty_mib=2";
    auto process = co_await side.driver->start(vm, mode);
    if (!process) co_return process.error();
    side.process = std::move(*process);
    auto client = co_await qmp::Client::connect(side.process.qmp_socket.string());
    if (!client) co_return client.error();
    side.qmp = *client;
    co_return Result<void>();
  }

  static Task<bool> booted(const Side& side) {
    for (const auto end = std::chrono::steady_clock::now() + kBootLimit;
         std::chrono::steady_clock::now() < end;) {
      const auto text = read_file(side.process.serial);
      if (text && text->find("BOOTED") != std::string::npos) co_return true;
      co_await wait_for(20ms);
    }
    co_return false;
  }

  Observer observer(const std::string& host) {
    return {
        [this, host](const std::string& type, const std::string& message, const nlohmann::json&) {
          story_ += "  " + host + ": " + type + ": " + message + "\n";
        },
        [](Generation) {}};
  }

  PairSettings settings(const Side& mine, const Side& other, Generation generation) {
    PairSettings settings;
    settings.vm = "demo";
    settings.host = mine.name;
    settings.peer = other.name;
    settings.generation = generation;
    // The end of the lanes is what is tested; a busy machine shall not look like a silent peer.
    settings.heartbeat_timeout = 20s;
    settings.parameters.period_ms = 100;
    settings.checkpoint_bytes_max = checkpoint_bytes_max(kMemoryMib);
    settings.colo_capabilities = hypervisor::colo_capabilities(mine.qmp->version());
    return settings;
  }

  Task<void> play(const Case& chosen);
  Task<void> run_primary(PrimarySession& session, bool& ended) {
    (void)co_await session.run("{}");
    ended = true;
    changed_.notify();
  }
  Task<void> run_secondary(SecondarySession& session, std::optional<FinishSecondary>& finish) {
    finish = co_await session.run();
    changed_.notify();
  }

  static constexpr std::uint32_t kMemoryMib = 192;
  hypervisor::QemuConfig qemu_;
  fs::path guest_, folder_;
  asio::io_context io_;
  Signal changed_{io_.get_executor()};
  UnreachableArbiter unreachable_;
  std::string story_;
};

Task<void> SessionFailover::play(const Case& chosen) {
  Side alpha{"alpha", {}, {}, {}}, beta{"beta", {}, {}, {}};
  const auto probe = co_await hypervisor::probe(qemu_);
  if (!probe) {
    ADD_FAILURE() << probe.error().message;
    co_return;
  }
  const auto primary_started = co_await start(alpha, *probe, hypervisor::StartMode::run);
  const auto secondary_started = co_await start(beta, *probe, hypervisor::StartMode::incoming);
  if (!primary_started || !secondary_started) {
    ADD_FAILURE() << (primary_started ? secondary_started : primary_started).error().message;
    co_return;
  }
  const bool guest_is_up = co_await booted(alpha);
  EXPECT_TRUE(guest_is_up);
  if (!guest_is_up) co_return;

  arbiter::LocalArbiter arbiter(folder_ / "arbiter");
  const auto generation = co_await arbiter.establish("demo", "alpha", "beta");
  if (!generation) {
    ADD_FAILURE() << generation.error().message;
    co_return;
  }

  const auto executor = io_.get_executor();
  auto bulk = transport::make_memory_lanes(executor);
  auto packet = transport::make_memory_lanes(executor);
  auto control = transport::make_memory_lanes(executor);
  auto* const bulk_lane = bulk.first.get();
  auto* const packet_lane = packet.first.get();
  auto* const control_lane = control.first.get();
  PrimarySession* dying = nullptr;
  const auto die = [&] {
    for (auto* lane : {bulk_lane, packet_lane, control_lane}) lane->close();
    asio::post(executor, [&] { dying->vm_lost({Errc::closed, "the host is dead"}); });
  };
  auto lane = std::make_unique<DyingLane>(std::move(bulk.first), chosen.cut, die);
  const auto* const observed = lane.get();

  PrimarySession primary(
      executor, settings(alpha, beta, *generation),
      {std::move(lane), std::move(packet.first), std::move(control.first), ""},
      {alpha.qmp, {}, {}, [] { return Result<void>(); }, [&alpha] { return kill(alpha); }},
      unreachable_, observer("alpha"));
  dying = &primary;
  bool primary_ended = false;
  asio::co_spawn(executor, run_primary(primary, primary_ended), asio::detached);

  // What the secondary's daemon does before it hands the lanes to a session.
  const auto setup = co_await receive_frame(*control.second, wire::LaneKind::control);
  EXPECT_TRUE(setup);
  SecondarySession secondary(
      executor, settings(beta, alpha, *generation),
      {std::move(bulk.second), std::move(packet.second), std::move(control.second), ""},
      {beta.qmp, {}, {}, [] { return Result<void>(); }, [&beta] { return kill(beta); }}, arbiter,
      observer("beta"));
  std::optional<FinishSecondary> finish;
  asio::co_spawn(executor, run_secondary(secondary, finish), asio::detached);
  while (!finish || !primary_ended) co_await changed_.wait();

  EXPECT_TRUE(observed->dead()) << "checkpoint " << kCutCheckpoint << " was never cut";
  EXPECT_EQ(finish->outcome, FinishSecondary::Outcome::promoted) << finish->reason.message;
  EXPECT_EQ(secondary.machine().committed(), chosen.goes_on_from);
  EXPECT_EQ(secondary.machine().loaded(), chosen.goes_on_from);
  EXPECT_TRUE(secondary.failover());
  if (secondary.failover()) {
    EXPECT_EQ(secondary.failover()->checkpoint, chosen.goes_on_from);
  }
  const auto status = co_await qmp::query_status(*beta.qmp);
  EXPECT_TRUE(status);
  if (status) {
    EXPECT_TRUE(status->running) << status->state;
  }

  // The guest lives: its dirtier goes on, and would complain about a page that is not its own.
  co_await wait_for(500ms);
  EXPECT_FALSE(hypervisor::has_ended(beta.process.pidfd.get()));
  const auto said = read_file(beta.process.serial);
  if (said) {
    EXPECT_EQ(said->find("dirty: page"), std::string::npos) << *said;
  }
  for (auto* side : {&alpha, &beta}) side->qmp->close();
}

TEST_P(SessionFailover, GoesOnFromTheNewestWholeCheckpoint) {
  std::exception_ptr failure;
  bool done = false;
  asio::co_spawn(io_, play(GetParam()), [&](std::exception_ptr thrown) {
    failure = thrown;
    done = true;
    io_.stop();
  });
  io_.run_for(kTestLimit);
  if (failure) std::rethrow_exception(failure);
  EXPECT_TRUE(done) << "it did not end in time";
  if (HasFailure()) std::cerr << "what happened:\n" << story_;
}

INSTANTIATE_TEST_SUITE_P(Cut, SessionFailover,
                         testing::Values(Case{"after_the_first_byte", {0, 1}, kCutCheckpoint - 1},
                                         Case{"in_the_first_page", {0, 3000}, kCutCheckpoint - 1},
                                         Case{"in_the_middle", {0.5, 0}, kCutCheckpoint - 1},
                                         Case{"before_the_digest", {1, -16}, kCutCheckpoint - 1},
                                         Case{"before_the_last_byte", {1, -1}, kCutCheckpoint - 1},
                                         Case{"after_the_last_byte", {1, 0}, kCutCheckpoint}),
                         [](const auto& chosen) { return std::string(chosen.param.name); });

}  // namespace
}  // namespace tandem::session
