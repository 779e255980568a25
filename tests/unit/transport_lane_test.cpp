// What every kind of lane promises: TCP and memory pass the same tests.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <numeric>

#include "engine/transport/memory.hpp"
#include "engine/transport/tcp.hpp"
#include "tests/unit/run_task.hpp"

namespace tandem::transport {
namespace {

using asio::ip::tcp;
using testing::HasSubstr;
using Bytes = std::vector<std::byte>;
using LanePair = std::pair<std::unique_ptr<Lane>, std::unique_ptr<Lane>>;

Bytes pattern(std::size_t size) {
  Bytes bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 31 + i / 251);
  return bytes;
}

LanePair tcp_lanes(asio::io_context& io) {
  tcp::acceptor acceptor(io, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
  tcp::socket first(io);
  first.connect(acceptor.local_endpoint());
  return {make_tcp_lane(std::move(first)), make_tcp_lane(acceptor.accept())};
}

struct Kind {
  const char* name;
  LanePair (*make)(asio::io_context&);
};
void PrintTo(const Kind& kind, std::ostream* out) { *out << kind.name; }

class LaneTest : public testing::TestWithParam<Kind> {
 protected:
  /// Runs a coroutine beside others; their results are checked by themselves.
  void spawn(Task<void> task) { asio::co_spawn(io_, std::move(task), test::rethrow); }
  void run() { test::run(io_); }

  static Task<void> send(Lane& lane, const Bytes& bytes) {
    const auto sent = co_await lane.send(bytes);
    EXPECT_TRUE(sent) << sent.error().message;
  }
  static Task<void> receive(Lane& lane, Bytes& into) {
    const auto received = co_await lane.receive(into);
    EXPECT_TRUE(received) << received.error().message;
  }
  static Task<void> receive_fails(Lane& lane, std::size_t size, Errc expected, bool& done) {
    Bytes into(size);
    const auto received = co_await lane.receive(into);
    EXPECT_FALSE(received);
    if (!received) {
      EXPECT_EQ(received.error().code, expected) << received.error().message;
    }
    done = true;
  }

  asio::io_context io_;
  LanePair lanes_ = GetParam().make(io_);
};

TEST_P(LaneTest, DeliversBothPiecesInOrder) {
  const auto head = pattern(24), body = pattern(5000);
  auto both = [](Lane& lane, const Bytes& first, const Bytes& second) -> Task<void> {
    const auto sent = co_await lane.send(first, second);
    EXPECT_TRUE(sent);
  };
  Bytes got_head(24), got_body(5000);
  spawn(both(*lanes_.first, head, body));
  spawn([](Lane& lane, Bytes& a, Bytes& b) -> Task<void> {
    co_await receive(lane, a);
    co_await receive(lane, b);
  }(*lanes_.second, got_head, got_body));
  run();
  EXPECT_EQ(got_head, head);
  EXPECT_EQ(got_body, body);
}

TEST_P(LaneTest, KeepsOrderOverManySendsCutDifferently) {
  const auto bytes = pattern(200'000);
  Bytes got(bytes.size());
  spawn([](Lane& lane, const Bytes& all) -> Task<void> {
    for (std::size_t at = 0, size = 1; at < all.size(); at += size, size = size * 3 % 7919 + 1) {
      const auto piece = std::span(all).subspan(at, std::min(size, all.size() - at));
      const auto sent = co_await lane.send(piece);
      EXPECT_TRUE(sent);
    }
  }(*lanes_.first, bytes));
  spawn([](Lane& lane, Bytes& all) -> Task<void> {
    for (std::size_t at = 0, size = 5; at < all.size(); at += size, size = size * 7 % 6007 + 1) {
      const auto piece = std::span(all).subspan(at, std::min(size, all.size() - at));
      const auto received = co_await lane.receive(piece);
      EXPECT_TRUE(received);
    }
  }(*lanes_.second, got));
  run();
  EXPECT_EQ(got, bytes);
}

TEST_P(LaneTest, CarriesMoreThanItsBuffersHold) {
  const auto bytes = pattern(12u << 20);
  Bytes got(bytes.size());
  spawn(send(*lanes_.first, bytes));
  spawn(receive(*lanes_.second, got));
  run();
  EXPECT_EQ(got, bytes);
}

TEST_P(LaneTest, CarriesBothDirectionsAtOnce) {
  const auto there = pattern(300'000), back = pattern(299'999);
  Bytes got_there(there.size()), got_back(back.size());
  spawn(send(*lanes_.first, there));
  spawn(send(*lanes_.second, back));
  spawn(receive(*lanes_.first, got_back));
  spawn(receive(*lanes_.second, got_there));
  run();
  EXPECT_EQ(got_there, there);
  EXPECT_EQ(got_back, back);
}

TEST_P(LaneTest, SendingAndReceivingNothingSucceeds) {
  Bytes nothing;
  spawn(send(*lanes_.first, nothing));
  spawn(receive(*lanes_.second, nothing));
  run();
}

TEST_P(LaneTest, TheEndOfThePeerIsSeenAfterWhatItSent) {
  const auto bytes = pattern(100);
  bool done = false;
  Bytes got(100);
  spawn(send(*lanes_.first, bytes));
  run();
  lanes_.first->close();
  spawn([](Lane& lane, Bytes& into, bool& end) -> Task<void> {
    co_await receive(lane, into);
    co_await receive_fails(lane, 1, Errc::closed, end);
  }(*lanes_.second, got, done));
  run();
  EXPECT_EQ(got, bytes);
  EXPECT_TRUE(done);
}

TEST_P(LaneTest, TooFewBytesBeforeTheEndAreAnErrorAtEveryLength) {
  for (std::size_t sent = 0; sent < 24; ++sent) {
    auto lanes = GetParam().make(io_);
    const auto bytes = pattern(sent);
    bool done = false;
    spawn(send(*lanes.first, bytes));
    run();
    lanes.first->close();
    spawn(receive_fails(*lanes.second, 24, Errc::closed, done));
    run();
    EXPECT_TRUE(done) << sent;
  }
}

TEST_P(LaneTest, ClosingEndsAReceiverThatWaits) {
  for (const bool by_peer : {true, false}) {
    auto lanes = GetParam().make(io_);
    bool done = false;
    spawn(receive_fails(*lanes.second, 10, Errc::closed, done));
    spawn([](Lane& lane) -> Task<void> {
      lane.close();
      co_return;
    }(by_peer ? *lanes.first : *lanes.second));
    run();
    EXPECT_TRUE(done);
  }
}

TEST_P(LaneTest, ClosingEndsASenderThatWaitsForRoom) {
  for (const bool by_peer : {false, true}) {
    auto lanes = GetParam().make(io_);
    const auto bytes = pattern(32u << 20);
    bool done = false;
    spawn([](Lane& lane, const Bytes& all, bool& end) -> Task<void> {
      const auto sent = co_await lane.send(all);
      EXPECT_FALSE(sent);
      if (!sent) {
        EXPECT_EQ(sent.error().code, Errc::closed);
      }
      end = true;
    }(*lanes.first, bytes, done));
    io_.restart();
    while (io_.poll() > 0) {
    }
    ASSERT_FALSE(done) << "nobody reads, so it must be waiting";
    (by_peer ? lanes.second : lanes.first)->close();
    run();
    EXPECT_TRUE(done);
  }
}

TEST_P(LaneTest, CallsOnAClosedLaneFailAndClosingAgainIsNothing) {
  lanes_.first->close();
  lanes_.first->close();
  bool done = false;
  spawn(receive_fails(*lanes_.first, 1, Errc::closed, done));
  spawn([](Lane& lane) -> Task<void> {
    const auto bytes = pattern(1);
    const auto sent = co_await lane.send(bytes);
    EXPECT_FALSE(sent);
    if (!sent) {
      EXPECT_EQ(sent.error().code, Errc::closed);
    }
  }(*lanes_.first));
  run();
  EXPECT_TRUE(done);
}

TEST_P(LaneTest, DestroyingALaneClosesIt) {
  bool done = false;
  spawn(receive_fails(*lanes_.second, 1, Errc::closed, done));
  spawn([](LanePair& lanes) -> Task<void> {
    lanes.first.reset();
    co_return;
  }(lanes_));
  run();
  EXPECT_TRUE(done);
}

INSTANTIATE_TEST_SUITE_P(Transports, LaneTest,
                         testing::Values(Kind{"tcp", tcp_lanes},
                                         Kind{"memory",
                                              [](asio::io_context& io) {
                                                return make_memory_lanes(io.get_executor());
                                              }},
                                         Kind{"narrow_memory",
                                              [](asio::io_context& io) {
                                                return make_memory_lanes(io.get_executor(), 1000);
                                              }}),
                         [](const auto& kind) { return std::string(kind.param.name); });

TEST(MemoryLane, IsCutAfterExactlyTheNumberOfBytesAsked) {
  const auto bytes = pattern(64);
  for (std::size_t cut = 0; cut < bytes.size(); ++cut) {
    asio::io_context io;
    const auto lanes = make_memory_lanes(io.get_executor(), 1u << 20, cut);
    Result<void> sent;
    std::size_t arrived = 0;
    asio::co_spawn(
        io,
        [](Lane& lane, const Bytes& all, Result<void>& result) -> Task<void> {
          result = co_await lane.send(all);
        }(*lanes.first, bytes, sent),
        test::rethrow);
    asio::co_spawn(
        io,
        [](Lane& lane, const Bytes& all, std::size_t& count) -> Task<void> {
          for (;; ++count) {
            Bytes one(1);
            const auto received = co_await lane.receive(one);
            if (!received) co_return;
            EXPECT_EQ(one[0], all[count]);
          }
        }(*lanes.second, bytes, arrived),
        test::rethrow);
    test::run(io);
    EXPECT_FALSE(sent) << cut;
    EXPECT_EQ(arrived, cut);
  }
}

TEST(TcpEndpoint, ParsesAddressesNamesAndIpv6) {
  const auto plain = parse_endpoint("10.0.0.1:7070");
  ASSERT_TRUE(plain);
  EXPECT_EQ(plain->host, "10.0.0.1");
  EXPECT_EQ(plain->port, 7070);
  EXPECT_EQ(parse_endpoint("[fe80::1]:1")->host, "fe80::1");
  EXPECT_EQ(parse_endpoint("host.example:65535")->port, 65535);
}

TEST(TcpEndpoint, RefusesEverythingElse) {
  for (const std::string_view text :
       {"", ":", "host", "host:", ":7070", "host:x", "host:70000", "host:-1", "host:70 ",
        "fe80::1:7070", "[]:7070", "host:+7"}) {
    const auto endpoint = parse_endpoint(text);
    ASSERT_FALSE(endpoint) << text;
    EXPECT_EQ(endpoint.error().code, Errc::invalid_input);
    EXPECT_THAT(endpoint.error().message, HasSubstr("HOST:PORT"));
  }
}

TEST(TcpConnect, SaysThatNobodyListens) {
  asio::io_context io;
  std::uint16_t port = 0;
  {
    tcp::acceptor acceptor(io, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
    port = acceptor.local_endpoint().port();
  }
  std::optional<Error> error;
  asio::co_spawn(
      io,
      [](std::uint16_t to, std::optional<Error>& out) -> Task<void> {
        const Endpoint nobody{"127.0.0.1", to};
        const auto socket = co_await connect_tcp(nobody, std::chrono::seconds(5));
        if (!socket) out = socket.error();
      }(port, error),
      test::rethrow);
  test::run(io);
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code, Errc::unavailable);
  EXPECT_THAT(error->message, HasSubstr("127.0.0.1:" + std::to_string(port)));
}

}  // namespace
}  // namespace tandem::transport
