// What a tandemd does with bytes on its replication port that it must not believe, and with an
// operator's mistakes: it says why, closes, and everything else stays as it was.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <fstream>
#include <iostream>
#include <random>
#include <thread>

#include "base/big_endian.hpp"
#include "engine/wire/protocol.hpp"
#include "experiments/world/world.hpp"

namespace tandem {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

/// Longer than any time limit of the daemon that a test here waits for.
constexpr auto kPatience = 15s;

/// A connection to beta's replication port, from alpha's side of the cable.
class Connection {
 public:
  explicit Connection(const world::NetNamespace& net) {
    auto socket = net.open_socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (!socket) throw ErrorException(socket.error());
    fd_ = std::move(*socket);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(7070);
    inet_pton(AF_INET, "10.77.0.2", &address.sin_addr);
    if (::connect(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
      throw ErrorException(system_error("connect", errno));
    }
  }

  void send(std::span<const std::byte> bytes) {
    // The daemon may have closed already; then what it said is what counts.
    while (!bytes.empty()) {
      const auto n = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return;
      bytes = bytes.subspan(static_cast<std::size_t>(n));
    }
  }
  void send(std::string_view text) { send(std::as_bytes(std::span(text))); }

  /// Everything until the daemon closes; nothing if it does not.
  std::optional<std::string> read_to_end(std::chrono::milliseconds limit = kPatience) {
    std::string all;
    while (const auto piece = read_some(limit)) {
      if (piece->empty()) return all;
      all += *piece;
    }
    return std::nullopt;
  }

  /// The answer to a hello: its status, and why not.
  std::optional<std::pair<wire::HelloStatus, std::string>> answer() {
    std::string bytes;
    while (bytes.size() < wire::hello_header_size) {
      const auto piece = read_some(kPatience);
      if (!piece || piece->empty()) return std::nullopt;
      bytes += *piece;
    }
    const auto header =
        wire::decode_hello_answer(std::as_bytes(std::span(bytes)).first<wire::hello_header_size>());
    if (!header) return std::nullopt;
    while (bytes.size() < wire::hello_header_size + header->text_length) {
      const auto piece = read_some(kPatience);
      if (!piece || piece->empty()) return std::nullopt;
      bytes += *piece;
    }
    return {{header->status, bytes.substr(wire::hello_header_size)}};
  }

 private:
  /// Empty: the end. Nothing: time is up.
  std::optional<std::string> read_some(std::chrono::milliseconds limit) {
    pollfd waiting{fd_.get(), POLLIN, 0};
    if (::poll(&waiting, 1, static_cast<int>(limit.count())) <= 0) return std::nullopt;
    std::string piece(4096, '\0');
    const auto n = ::recv(fd_.get(), piece.data(), piece.size(), 0);
    piece.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
    return piece;
  }

  UniqueFd fd_;
};

std::string hello_json(const std::string& vm, const std::string& host, char session = '0') {
  return json{{"vm", vm}, {"host", host}, {"session", std::string(32, session)}}.dump();
}

class BadPeer : public testing::Test {
 protected:
  void SetUp() override {
    auto world = world::World::make({});
    ASSERT_TRUE(world) << world.error().message;
    world_ = std::make_unique<world::World>(std::move(*world));
    options_.tandemd = TANDEM_TANDEMD;
    options_.tcg_shim = TANDEM_TCG_SHIM;
    options_.accel = "tcg";
    hypervisor::VmDefinition vm;  // Does nothing: its firmware finds no disk.
    vm.name = "demo";
    vm.memory_mib = 32;
    options_.vms = {vm};
  }
  void TearDown() override {
    if (HasFailure() && world_) std::cerr << world::file_tail(beta().daemon_log(), 20) << '\n';
    world_.reset();
  }

  world::Host& beta() { return world_->beta(); }
  const world::NetNamespace& outside() { return world_->alpha().net(); }

  void start(bool with_vm = false) {
    const auto started = beta().start_daemon(options_);
    ASSERT_TRUE(started) << started.error().message;
    if (with_vm) {
      const auto running = beta().api().post("/v1/vms/demo/start", json::object(), 60s);
      ASSERT_TRUE(running) << running.error().message;
    }
    before_ = what_stays();
  }

  /// What no bad peer may change: the processes, and every VM.
  json what_stays() {
    auto status = beta().api().get("/v1/status", 5s);
    if (!status) {
      ADD_FAILURE() << status.error().message;
      return {};
    }
    status->erase("qemu");  // examined in the background
    for (auto& vm : (*status)["vms"]) vm.erase("stopped_ratio");
    return *status;
  }

  void expect_unharmed() {
    EXPECT_EQ(what_stays(), before_);
    Connection good(outside());
    good.send(wire::encode_hello(wire::LaneKind::control, hello_json("fresh", "alpha", 'f')));
    const auto answer = good.answer();
    ASSERT_TRUE(answer) << "a sound hello got no answer";
    EXPECT_EQ(answer->first, wire::HelloStatus::accepted) << answer->second;
  }

  /// Sends a hello and expects to be refused with a text that has these words.
  template <class Matcher>
  void expect_refused(std::span<const std::byte> hello, const Matcher& words) {
    Connection peer(outside());
    peer.send(hello);
    const auto answer = peer.answer();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->first, wire::HelloStatus::refused);
    EXPECT_THAT(answer->second, words);
    EXPECT_TRUE(peer.read_to_end()) << "the connection must be closed";
  }

  std::unique_ptr<world::World> world_;
  world::DaemonOptions options_;
  json before_;
};

TEST_F(BadPeer, AnotherProgramsRequestIsRefused) {
  ASSERT_NO_FATAL_FAILURE(start(true));
  Connection peer(outside());
  peer.send("GET / HTTP/1.1\r\nHost: beta\r\n\r\n");
  const auto said = peer.read_to_end();
  ASSERT_TRUE(said) << "the connection stays open";
  EXPECT_THAT(*said, HasSubstr("does not speak Tandem's"));
  expect_unharmed();
}

TEST_F(BadPeer, RandomBytesAreRefused) {
  ASSERT_NO_FATAL_FAILURE(start(true));
  std::mt19937 random(1);
  for (int i = 0; i < 20; ++i) {
    std::vector<std::byte> noise(1 + random() % 65536);
    for (auto& byte : noise) byte = static_cast<std::byte>(random());
    if (i % 2 == 0) noise.resize(std::max<std::size_t>(noise.size(), 12));
    Connection peer(outside());
    peer.send(noise);
    EXPECT_TRUE(peer.read_to_end()) << "the connection stays open, round " << i;
  }
  expect_unharmed();
}

TEST_F(BadPeer, SilentAndHalfAHelloTimeOut) {
  ASSERT_NO_FATAL_FAILURE(start());
  Connection silent(outside()), half(outside()), without_text(outside());
  half.send("TNDM");
  const auto hello = wire::encode_hello(wire::LaneKind::bulk, hello_json("demo", "alpha"));
  without_text.send(std::span(hello).first(wire::hello_header_size + 3));
  for (auto* peer : {&silent, &half, &without_text}) EXPECT_TRUE(peer->read_to_end());
  expect_unharmed();
}

TEST_F(BadPeer, AnotherProtocolVersionIsRefusedAndBothAreNamed) {
  ASSERT_NO_FATAL_FAILURE(start(true));
  auto hello = wire::encode_hello(wire::LaneKind::control, hello_json("other", "alpha"));
  store_be<std::uint16_t>(&hello[4], 7);
  expect_refused(hello, AllOf(HasSubstr("version 7"),
                              HasSubstr("version " + std::to_string(wire::protocol_version))));
  expect_unharmed();
}

TEST_F(BadPeer, AnOversizeHelloIsRefused) {
  ASSERT_NO_FATAL_FAILURE(start());
  auto hello = wire::encode_hello(wire::LaneKind::control, "");
  store_be<std::uint32_t>(&hello[8], 0xffffffff);
  expect_refused(hello, HasSubstr("4294967295"));
  expect_unharmed();
}

TEST_F(BadPeer, HellosThatNameNothingSoundAreRefused) {
  ASSERT_NO_FATAL_FAILURE(start());
  for (const std::string& text :
       {std::string("{}"), std::string("[]"), std::string("\xff"), hello_json("../etc", "alpha"),
        hello_json("", "alpha"), hello_json("demo", "al pha"),
        std::string(R"({"vm":"demo","host":"alpha","session":"short"})"),
        std::string(R"({"vm":7,"host":"alpha","session":null})")}) {
    expect_refused(wire::encode_hello(wire::LaneKind::control, text), HasSubstr("hello without"));
  }
  expect_refused(wire::encode_hello(wire::LaneKind::control, hello_json("demo", "beta")),
                 HasSubstr("is called beta too"));
  expect_unharmed();
}

TEST_F(BadPeer, ASecondPrimaryForAVmThatRunsHereIsRefused) {
  ASSERT_NO_FATAL_FAILURE(start(true));
  for (const auto kind : {wire::LaneKind::bulk, wire::LaneKind::packet, wire::LaneKind::control}) {
    expect_refused(wire::encode_hello(kind, hello_json("demo", "alpha")),
                   AllOf(HasSubstr("VM demo"), HasSubstr("already")));
  }
  expect_unharmed();
}

TEST_F(BadPeer, ALaneTwiceIsRefusedAndHalfAPairTimesOut) {
  ASSERT_NO_FATAL_FAILURE(start());
  Connection bulk(outside());
  bulk.send(wire::encode_hello(wire::LaneKind::bulk, hello_json("demo", "alpha")));
  const auto answer = bulk.answer();
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->first, wire::HelloStatus::accepted);
  expect_refused(wire::encode_hello(wire::LaneKind::bulk, hello_json("demo", "alpha")),
                 HasSubstr("second bulk lane"));
  EXPECT_TRUE(bulk.read_to_end()) << "two lanes are missing; the first must not wait for ever";
  expect_unharmed();
}

TEST_F(BadPeer, ThreeLanesWithoutASetUpDoNotKeepTheVmsNameBusy) {
  ASSERT_NO_FATAL_FAILURE(start());
  std::vector<std::unique_ptr<Connection>> lanes;
  for (const auto kind : {wire::LaneKind::bulk, wire::LaneKind::packet, wire::LaneKind::control}) {
    lanes.push_back(std::make_unique<Connection>(outside()));
    lanes.back()->send(wire::encode_hello(kind, hello_json("demo", "alpha")));
    const auto answer = lanes.back()->answer();
    ASSERT_TRUE(answer);
    ASSERT_EQ(answer->first, wire::HelloStatus::accepted) << answer->second;
  }
  const auto said = lanes.back()->read_to_end();
  ASSERT_TRUE(said) << "the lanes stay open";
  EXPECT_THAT(*said, HasSubstr("set-up"));
  const auto started = beta().api().post("/v1/vms/demo/start", json::object(), 60s);
  EXPECT_TRUE(started) << started.error().message;
}

TEST_F(BadPeer, ASetUpThatIsNoneIsRefusedWithTheReason) {
  ASSERT_NO_FATAL_FAILURE(start());
  std::vector<std::unique_ptr<Connection>> lanes;
  for (const auto kind : {wire::LaneKind::bulk, wire::LaneKind::packet, wire::LaneKind::control}) {
    lanes.push_back(std::make_unique<Connection>(outside()));
    lanes.back()->send(wire::encode_hello(kind, hello_json("demo", "alpha")));
    ASSERT_TRUE(lanes.back()->answer());
  }
  const std::string setup = R"({"vm":{"name":"demo"}})";
  lanes.back()->send(wire::encode_frame({wire::FrameType::setup, 0, setup.size()}));
  lanes.back()->send(setup);
  const auto said = lanes.back()->read_to_end();
  ASSERT_TRUE(said);
  EXPECT_THAT(*said, HasSubstr("the pair's set-up"));
  EXPECT_TRUE(beta().qemu_processes().empty());
  expect_unharmed();
}

TEST_F(BadPeer, ManyConnectionsDoNotStopTheDaemon) {
  ASSERT_NO_FATAL_FAILURE(start(true));
  std::vector<std::unique_ptr<Connection>> crowd;
  for (int i = 0; i < 300; ++i) crowd.push_back(std::make_unique<Connection>(outside()));
  EXPECT_EQ(what_stays(), before_) << "while they are all open";
  for (auto& one : crowd) EXPECT_TRUE(one->read_to_end()) << "none may be kept for ever";
  expect_unharmed();
}

TEST_F(BadPeer, AVmThatIsNotKnownIsNotFound) {
  ASSERT_NO_FATAL_FAILURE(start());
  const auto protect = beta().api().post("/v1/vms/ghost/protect", {{"peer", "alpha"}}, 10s);
  ASSERT_FALSE(protect);
  EXPECT_EQ(protect.error().code, Errc::not_found);
  EXPECT_THAT(protect.error().message, AllOf(HasSubstr("ghost"), HasSubstr("beta")));
  expect_unharmed();
}

TEST_F(BadPeer, WithoutThePermissionForATapTheErrorSaysWhatIsMissing) {
  if (!world::find_program("setpriv")) GTEST_SKIP() << "no setpriv (package util-linux)";
  const auto wrapper = world_->directory() / "unprivileged";
  {
    std::ofstream script(wrapper);
    script << "#!/bin/sh\nexec setpriv --bounding-set=-net_admin -- " << TANDEM_TANDEMD
           << " \"$@\"\n";
  }
  std::filesystem::permissions(wrapper, std::filesystem::perms::owner_all);
  options_.tandemd = wrapper;
  options_.vms[0].nics = {{"n0", "52:54:00:12:34:56", "tnd0", "br0"}};
  ASSERT_NO_FATAL_FAILURE(start());
  const auto started = beta().api().post("/v1/vms/demo/start", json::object(), 60s);
  ASSERT_FALSE(started);
  EXPECT_EQ(started.error().code, Errc::permission);
  EXPECT_THAT(started.error().message, AllOf(HasSubstr("tnd0"), HasSubstr("CAP_NET_ADMIN")));
  EXPECT_TRUE(beta().qemu_processes().empty());
}

}  // namespace
}  // namespace tandem
