// The survival experiment's client against the guest's real service in a private network: it must
// find nothing wrong when nothing is, and must not fail to find it when something is.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

#include <array>
#include <filesystem>
#include <fstream>

#include "base/big_endian.hpp"
#include "base/file.hpp"
#include "experiments/survival/client.hpp"
#include "experiments/survival/path.hpp"
#include "experiments/world/delay_line.hpp"
#include "experiments/world/packet_socket.hpp"
#include "experiments/world/process.hpp"

namespace tandem::survival {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using world::NetNamespace;
using Clock = std::chrono::steady_clock;

constexpr const char* client_address = "10.88.0.2";
constexpr const char* guest_address = "10.88.0.10";

class SurvivalClient : public testing::Test {
 protected:
  void SetUp() override {
    auto client = NetNamespace::make("client");
    auto guest = NetNamespace::make("guest");
    auto between = NetNamespace::make("between");
    ASSERT_TRUE(client && guest && between);
    client_net_ = std::make_unique<NetNamespace>(std::move(*client));
    guest_net_ = std::make_unique<NetNamespace>(std::move(*guest));
    between_ = std::make_unique<NetNamespace>(std::move(*between));
    ASSERT_TRUE(client_net_->add_veth("eth0", *between_, "to-client"));
    ASSERT_TRUE(guest_net_->add_veth("eth0", *between_, "to-guest"));
    ASSERT_TRUE(client_net_->add_address("eth0", std::string(client_address) + "/24"));
    ASSERT_TRUE(guest_net_->add_address("eth0", std::string(guest_address) + "/24"));
  }

  void join_by_a_bridge() {
    ASSERT_TRUE(between_->add_bridge("br0"));
    ASSERT_TRUE(between_->join_bridge("to-client", "br0"));
    ASSERT_TRUE(between_->join_bridge("to-guest", "br0"));
  }

  void join_by_a_line(const world::DelayOptions& options) {
    for (const auto* net : {client_net_.get(), guest_net_.get()})
      ASSERT_TRUE(net->set_offload("eth0", false));
    auto line = world::DelayLine::start(*between_, "to-client", "to-guest", options);
    ASSERT_TRUE(line) << line.error().message;
    line_ = std::move(*line);
  }

  void start() {
    const auto ready = std::filesystem::temp_directory_path() /
                       ("tnd-peerd." + std::to_string(::getpid()) + ".ready");
    const auto said = ready.string() + ".said";
    std::filesystem::remove(ready);
    std::filesystem::remove(said);
    world::SpawnOptions options;
    options.argv = {TANDEM_PEERD, ready.string()};
    options.net = guest_net_.get();
    options.stdout_file = said;
    options.stderr_file = said;
    auto started = world::Process::spawn(options);
    ASSERT_TRUE(started) << started.error().message;
    peerd_.emplace(std::move(*started));
    const auto give_up = Clock::now() + 10s;
    while (!std::filesystem::exists(ready)) {
      const auto words = read_file(said);
      ASSERT_TRUE(Clock::now() < give_up && peerd_->running())
          << "peerd " << (peerd_->running() ? "stands still" : "has ended") << " and said \""
          << (words ? *words : "") << '"';
      ::poll(nullptr, 0, 2);
    }
    std::filesystem::remove(ready);
    std::filesystem::remove(said);
    auto client = Client::start(*client_net_, client_address, guest_address);
    ASSERT_TRUE(client) << client.error().message;
    client_ = std::move(*client);
  }

  void wait_for_replies(std::uint64_t replies) {
    const auto give_up = Clock::now() + 20s;
    for (;;) {
      const auto all = client_->progress();
      const auto enough = [&](const Progress& one) { return one.ended || one.replies >= replies; };
      if (std::ranges::all_of(all, enough)) return;
      if (Clock::now() > give_up) {
        for (std::size_t i = 0; i < all.size(); ++i)
          ADD_FAILURE() << "conversation " << i << ": " << all[i].replies << " replies, "
                        << (all[i].established ? "" : "not ") << "established, " << all[i].problem;
        return;
      }
      ::poll(nullptr, 0, 2);
    }
  }

  void open_one_of_each() {
    const auto now = Clock::now();
    client_->open(make_echo({.seed = 1, .messages_per_second = 200}, now), {});
    client_->open(make_upload(2, 65536), {});
    client_->open(make_download(3, 1 << 20), {});
    client_->open(make_random(1ms, now), {});
    ServiceOptions service;
    service.pages = 5000;
    service.requests_per_second = 200;
    service.begin = now;
    service.end = now + 60s;
    service.random = [now](Time due) { return due > now + 100ms; };
    client_->open(make_service(service), {});
    client_->open(make_echo({.seed = 4, .messages_per_second = 200, .says_echo = false}, now),
                  {.by = Opening::By::guest});
  }

  std::unique_ptr<NetNamespace> client_net_, guest_net_, between_;
  std::unique_ptr<world::DelayLine> line_;
  std::optional<world::Process> peerd_;
  std::unique_ptr<Client> client_;
};

TEST_F(SurvivalClient, FindsNothingWrongWhenNothingIs) {
  join_by_a_bridge();
  start();
  open_one_of_each();
  wait_for_replies(50);
  const auto outcomes = client_->finish_all(10s).get();
  ASSERT_EQ(outcomes.size(), 6U);
  for (const auto& outcome : outcomes) {
    EXPECT_TRUE(outcome.survived) << outcome.problem;
    EXPECT_GE(outcome.account.replies, 50U);
    EXPECT_TRUE(outcome.established);
    EXPECT_FALSE(outcome.wrapped);
  }
}

TEST_F(SurvivalClient, CarriesSequenceNumbersPastTheirEndInBothDirections) {
  join_by_a_bridge();
  start();
  const auto now = Clock::now();
  constexpr std::uint32_t near_the_end = 0xffffffff - 500;
  client_->open(make_echo({.messages_per_second = 500}, now), {.sequence = near_the_end});
  client_->open(make_echo({.messages_per_second = 500, .says_echo = false}, now),
                {.by = Opening::By::guest, .sequence = near_the_end});
  // The numbers on the wire say that the wish was granted: its SYN carries what was asked for.
  wait_for_replies(20);
  const auto outcomes = client_->finish_all(10s).get();
  for (const auto& outcome : outcomes) {
    EXPECT_TRUE(outcome.survived) << outcome.problem;
    EXPECT_TRUE(outcome.wrapped);
  }
}

// The SYN segments' sequence numbers that pass a packet socket, until there are `count`.
std::vector<std::uint32_t> syn_numbers(int socket, std::size_t count) {
  std::vector<std::uint32_t> numbers;
  const auto give_up = Clock::now() + 10s;
  std::array<std::byte, 2048> frame{};
  while (numbers.size() < count && Clock::now() < give_up) {
    pollfd readable{socket, POLLIN, 0};
    ::poll(&readable, 1, 100);
    const auto got = ::recv(socket, frame.data(), frame.size(), 0);
    constexpr std::size_t tcp = 14 + 20;
    if (got < static_cast<ssize_t>(tcp + 20) || frame[14 + 9] != std::byte{6}) continue;
    if ((frame[tcp + 13] & std::byte{0x12}) == std::byte{0x02})
      numbers.push_back(load_be<std::uint32_t>(&frame[tcp + 4]));
  }
  return numbers;
}

TEST_F(SurvivalClient, PresetsTheNumbersThatAreOnTheWire) {
  join_by_a_bridge();
  start();
  const auto socket = world::listen_on_link(*guest_net_, "eth0");
  ASSERT_TRUE(socket);
  const auto now = Clock::now();
  client_->open(make_echo({}, now), {.sequence = 4294967000U});
  EXPECT_THAT(syn_numbers(socket->get(), 1), testing::ElementsAre(4294967000U));
  client_->open(make_echo({.says_echo = false}, now),
                {.by = Opening::By::guest, .sequence = 4294960000U});
  EXPECT_THAT(syn_numbers(socket->get(), 1), testing::ElementsAre(4294960000U));
}

TEST_F(SurvivalClient, FindsNothingWrongOnALongAndLossyPathWithSackBlocks) {
  join_by_a_line({.delay = 10ms, .loss = 0.03, .seed = 5});
  start();
  open_one_of_each();
  const auto begin = Clock::now();
  while (Clock::now() < begin + 20s &&
         (line_->counters().forth.with_sack == 0 || line_->counters().back.with_sack == 0))
    ::poll(nullptr, 0, 20);
  wait_for_replies(20);
  const auto outcomes = client_->finish_all(30s).get();
  for (const auto& outcome : outcomes) {
    EXPECT_TRUE(outcome.survived) << outcome.problem;
    for (const auto& latency : outcome.account.latencies) EXPECT_GE(latency.took, 20ms);
  }
  const auto counters = line_->counters();
  EXPECT_GT(counters.forth.lost, 0U);
  EXPECT_GT(counters.back.lost, 0U);
  EXPECT_GT(counters.forth.with_sack, 0U);
  EXPECT_GT(counters.back.with_sack, 0U);
  EXPECT_EQ(counters.unsent, 0U);
  const auto wrong = checksum_errors(*client_net_);
  ASSERT_TRUE(wrong);
  EXPECT_EQ(*wrong, 0U);
}

TEST_F(SurvivalClient, ReportsConnectionsThatAreReset) {
  join_by_a_bridge();
  start();
  open_one_of_each();
  wait_for_replies(5);
  ASSERT_TRUE(peerd_->kill(SIGKILL));
  ASSERT_TRUE(peerd_->wait(5s));
  const auto outcomes = client_->finish_all(5s).get();
  for (const auto& outcome : outcomes) {
    EXPECT_FALSE(outcome.survived);
    EXPECT_NE(outcome.problem, "");
  }
}

TEST_F(SurvivalClient, ReportsARefusedConnection) {
  join_by_a_bridge();
  start();
  ASSERT_TRUE(peerd_->kill(SIGKILL));
  ASSERT_TRUE(peerd_->wait(5s));
  client_->open(make_echo({}, Clock::now()), {});
  const auto outcomes = client_->finish_all(5s).get();
  EXPECT_THAT(outcomes.at(0).problem, HasSubstr("refused"));
}

TEST_F(SurvivalClient, ReportsWhatIsStillMissingFromAGuestThatStandsStill) {
  join_by_a_bridge();
  start();
  open_one_of_each();
  wait_for_replies(5);
  ASSERT_TRUE(peerd_->kill(SIGSTOP));
  const auto before = client_->progress();
  ::poll(nullptr, 0, 100);
  const auto outcomes = client_->finish_all(300ms).get();
  ASSERT_TRUE(peerd_->kill(SIGCONT));
  for (const auto& outcome : outcomes) EXPECT_FALSE(outcome.survived);
  EXPECT_THAT(outcomes.at(0).problem, HasSubstr("have not come back"));
  EXPECT_THAT(outcomes.at(1).problem, HasSubstr("not confirmed"));
  EXPECT_THAT(outcomes.at(2).problem, HasSubstr("have not come"));
  EXPECT_THAT(outcomes.at(3).problem, HasSubstr("not answered"));
}

TEST_F(SurvivalClient, CarriesAConnectionAcrossSilenceAndKnowsHowLongItWas) {
  join_by_a_bridge();
  start();
  client_->open(make_echo({.messages_per_second = 100}, Clock::now()), {});
  wait_for_replies(5);
  ASSERT_TRUE(between_->set_up("to-guest", false));
  const auto cut = Clock::now();
  ::poll(nullptr, 0, 300);
  ASSERT_TRUE(between_->set_up("to-guest", true));
  const auto back = Clock::now();
  wait_for_replies(client_->progress().at(0).replies + 5);
  const auto outcomes = client_->finish_all(10s).get();
  EXPECT_TRUE(outcomes.at(0).survived) << outcomes.at(0).problem;
  for (const auto& answer : outcomes.at(0).account.answers)
    EXPECT_FALSE(answer > cut + 50ms && answer < back);
}

std::uint32_t sum_words(std::span<const std::byte> bytes, std::uint32_t sum) {
  for (std::size_t i = 0; i < bytes.size(); i += 2) {
    const auto low = i + 1 < bytes.size() ? static_cast<std::uint32_t>(bytes[i + 1]) : 0U;
    sum += (static_cast<std::uint32_t>(bytes[i]) << 8U) + low;
  }
  return sum;
}

// Whether the TCP checksum of a frame over IPv4 is complete and right.
bool checksum_is_right(std::span<const std::byte> frame) {
  const auto ip = frame.subspan(14);
  const auto length = load_be<std::uint16_t>(&ip[2]);
  const auto tcp = ip.subspan(20, length - 20U);
  auto sum = sum_words(ip.subspan(12, 8), 6U + static_cast<std::uint32_t>(tcp.size()));
  sum = sum_words(tcp, sum);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16U);
  return sum == 0xffff;
}

struct Seen {
  std::size_t segments = 0, complete = 0, longest = 0;
};

// Looks at `count` TCP segments that come in through a packet socket.
Seen look_at_segments(int socket, std::size_t count) {
  Seen seen;
  std::vector<std::byte> frame(65536);
  const auto give_up = Clock::now() + 10s;
  while (seen.segments < count && Clock::now() < give_up) {
    pollfd readable{socket, POLLIN, 0};
    ::poll(&readable, 1, 100);
    const auto got = ::recv(socket, frame.data(), frame.size(), 0);
    if (got < 54 || frame[14 + 9] != std::byte{6}) continue;
    ++seen.segments;
    const std::span bytes(frame.data(), static_cast<std::size_t>(got));
    if (checksum_is_right(bytes)) ++seen.complete;
    seen.longest = std::max(seen.longest, bytes.size());
  }
  return seen;
}

TEST_F(SurvivalClient, WithoutOffloadFramesAreAsAWireWouldCarryThem) {
  join_by_a_bridge();
  start();
  const auto socket = world::listen_on_link(*between_, "to-client");
  ASSERT_TRUE(socket);
  client_->open(make_upload(1, 65536), {});
  const auto with = look_at_segments(socket->get(), 200);
  EXPECT_EQ(with.segments, 200U);
  EXPECT_LT(with.complete, with.segments) << "there is no offload here that could be switched off";
  client_->finish_all(10s).get();

  for (const auto* net : {client_net_.get(), guest_net_.get()})
    ASSERT_TRUE(net->set_offload("eth0", false));
  const auto again = world::listen_on_link(*between_, "to-client");
  ASSERT_TRUE(again);
  client_->open(make_upload(1, 65536), {});
  const auto without = look_at_segments(again->get(), 200);
  EXPECT_EQ(without.segments, 200U);
  EXPECT_EQ(without.complete, without.segments);
  EXPECT_LE(without.longest, 1514U);
}

TEST_F(SurvivalClient, WithoutOffloadAWrongChecksumIsNoticed) {
  join_by_a_bridge();
  for (const auto* net : {client_net_.get(), guest_net_.get()})
    ASSERT_TRUE(net->set_offload("eth0", false));
  start();
  const auto socket = world::listen_on_link(*between_, "to-client");
  ASSERT_TRUE(socket);
  client_->open(make_echo({.messages_per_second = 50}, Clock::now()), {});
  // A segment that goes to the client comes to it once more, with one bit of its data changed.
  std::vector<std::byte> frame(65536);
  const auto give_up = Clock::now() + 10s;
  const std::array client_ip{std::byte{10}, std::byte{88}, std::byte{0}, std::byte{2}};
  for (;;) {
    ASSERT_LT(Clock::now(), give_up);
    pollfd readable{socket->get(), POLLIN, 0};
    ::poll(&readable, 1, 100);
    const auto got = ::recv(socket->get(), frame.data(), frame.size(), 0);
    if (got < 100 || frame[14 + 9] != std::byte{6} ||
        !std::equal(client_ip.begin(), client_ip.end(), &frame[14 + 16]))
      continue;
    frame[static_cast<std::size_t>(got) - 1] ^= std::byte{1};
    ASSERT_EQ(::send(socket->get(), frame.data(), static_cast<std::size_t>(got), 0), got);
    break;
  }
  while (true) {
    ASSERT_LT(Clock::now(), give_up);
    const auto wrong = checksum_errors(*client_net_);
    ASSERT_TRUE(wrong) << wrong.error().message;
    if (*wrong == 1) break;
    ::poll(nullptr, 0, 5);
  }
  const auto outcomes = client_->finish_all(10s).get();
  EXPECT_TRUE(outcomes.at(0).survived) << outcomes.at(0).problem;
}

}  // namespace
}  // namespace tandem::survival
