// The demo's client against a real redis in a private network: it must find nothing wrong when
// nothing is, and must not fail to find it when something is.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <filesystem>

#include "experiments/demo/redis_client.hpp"
#include "experiments/world/net_namespace.hpp"
#include "experiments/world/process.hpp"

namespace tandem::demo {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using world::NetNamespace;
using world::Process;

constexpr const char* kServer = "10.88.0.10";

// redis-check-rdb is redis-server: which of its tools the binary is, it reads from its name.
std::optional<std::filesystem::path> redis_binary() {
  if (auto server = world::find_program("redis-server")) return server;
  return world::find_program("redis-check-rdb");
}

class RedisClientTest : public testing::Test {
 protected:
  void SetUp() override {
    binary_ = redis_binary();
    if (!binary_)
      GTEST_SKIP() << "neither redis-server nor redis-check-rdb (package redis-tools) is here";
    auto client = NetNamespace::make("client");
    auto server = NetNamespace::make("server");
    ASSERT_TRUE(client && server);
    client_net_ = std::make_unique<NetNamespace>(std::move(*client));
    server_net_ = std::make_unique<NetNamespace>(std::move(*server));
    ASSERT_TRUE(client_net_->add_veth("cable", *server_net_, "eth0"));
    ASSERT_TRUE(client_net_->add_address("cable", "10.88.0.1/24"));
    ASSERT_TRUE(server_net_->add_address("eth0", std::string(kServer) + "/24"));
  }

  void start_redis() {
    world::SpawnOptions options;
    options.executable = *binary_;
    options.argv = {
        "redis-server", "--bind", kServer, "--port",           "6379", "--save", "", "--appendonly",
        "no",           "--dir",  "/tmp",  "--protected-mode", "no"};
    options.net = server_net_.get();
    options.stdout_file = options.stderr_file = log_;
    auto started = Process::spawn(options);
    ASSERT_TRUE(started) << started.error().message;
    redis_.emplace(std::move(*started));
  }

  void kill_redis() {
    ASSERT_TRUE(redis_->kill(SIGKILL));
    ASSERT_TRUE(redis_->wait(seconds(5)));
  }

  std::unique_ptr<RedisClient> connected_client(double rate, std::size_t window = 64) {
    ClientOptions options;
    options.address = kServer;
    options.writes_per_second = rate;
    options.window = window;
    options.net = client_net_.get();
    auto client = std::make_unique<RedisClient>(options);
    const auto connected = client->connect(seconds(10)).get();
    EXPECT_TRUE(connected) << connected.error().message;
    return client;
  }

  // Waits until the client has this many acknowledged writes.
  static void wait_for_writes(const RedisClient& client, std::uint64_t count) {
    const auto deadline = std::chrono::steady_clock::now() + seconds(20);
    while (client.progress().acknowledged < count) {
      ASSERT_LT(std::chrono::steady_clock::now(), deadline) << client.progress().problem;
      ::poll(nullptr, 0, 2);
    }
  }

  // Runs redis-cli's protocol by hand, over another connection: deletes or changes one key.
  void meddle(const std::string& command) const {
    auto socket = server_net_->open_socket(AF_INET, SOCK_STREAM, 0);
    ASSERT_TRUE(socket);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(6379);
    ::inet_pton(AF_INET, kServer, &address.sin_addr);
    ASSERT_EQ(::connect(socket->get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    ASSERT_EQ(::send(socket->get(), command.data(), command.size(), 0),
              static_cast<ssize_t>(command.size()));
    std::array<char, 64> reply{};
    ASSERT_GT(::recv(socket->get(), reply.data(), reply.size(), 0), 0);
  }

  std::optional<std::filesystem::path> binary_;
  std::filesystem::path log_ = "/tmp/tnd-redis-test." + std::to_string(::getpid()) + ".log";
  std::unique_ptr<NetNamespace> client_net_, server_net_;
  std::optional<Process> redis_;

  void TearDown() override { std::filesystem::remove(log_); }
};

TEST_F(RedisClientTest, FindsNothingWrongWhenNothingIs) {
  start_redis();
  auto client = connected_client(1000);
  client->start_writing();
  wait_for_writes(*client, 500);
  const auto report = client->finish({}).get();
  EXPECT_TRUE(report.connection_survived) << report.connection_problem;
  EXPECT_GE(report.acknowledged, 500U);
  EXPECT_EQ(report.acknowledged, report.sent);
  EXPECT_EQ(report.lost, 0U);
  EXPECT_EQ(report.read_back_problem, "");
  EXPECT_EQ(report.answers.size(), report.acknowledged);
  EXPECT_EQ(report.waiting_until, std::nullopt);
}

TEST_F(RedisClientTest, WritesAtTheRateThatIsAskedFor) {
  start_redis();
  auto client = connected_client(200);
  client->start_writing();
  wait_for_writes(*client, 300);
  const auto report = client->finish({}).get();
  const double took =
      std::chrono::duration<double>(report.answers.back() - report.answers.front()).count();
  EXPECT_NEAR(static_cast<double>(report.answers.size() - 1) / took, 200, 40);
}

TEST_F(RedisClientTest, ReportsTheLostConnectionAndTheLostWritesOfARestart) {
  start_redis();
  auto client = connected_client(500);
  client->start_writing();
  wait_for_writes(*client, 200);
  kill_redis();
  start_redis();
  const auto report = client->finish({}).get();
  EXPECT_FALSE(report.connection_survived);
  EXPECT_NE(report.connection_problem, "");
  EXPECT_GE(report.acknowledged, 200U);
  EXPECT_EQ(report.lost, report.acknowledged) << "this redis keeps nothing";
  EXPECT_EQ(report.read_back_problem, "") << "it was asked over a new connection";
  EXPECT_FALSE(report.lost_examples.empty());
  EXPECT_TRUE(report.waiting_until.has_value());
}

TEST_F(RedisClientTest, CountsEverythingAsLostWhenRedisStaysAway) {
  start_redis();
  auto client = connected_client(500);
  client->start_writing();
  wait_for_writes(*client, 100);
  kill_redis();
  const auto report = client->finish({milliseconds(500), milliseconds(700)}).get();
  EXPECT_FALSE(report.connection_survived);
  EXPECT_EQ(report.lost, report.acknowledged);
  EXPECT_NE(report.read_back_problem, "");
}

TEST_F(RedisClientTest, FindsOneLostWriteAmongMany) {
  start_redis();
  auto client = connected_client(1000);
  client->start_writing();
  wait_for_writes(*client, 300);
  meddle(encode_command({"DEL", "k:77"}));
  const auto report = client->finish({}).get();
  EXPECT_TRUE(report.connection_survived);
  EXPECT_EQ(report.lost, 1U);
  EXPECT_EQ(report.lost_examples, std::vector<std::uint64_t>{77});
}

TEST_F(RedisClientTest, FindsOneWrongValueAmongMany) {
  start_redis();
  auto client = connected_client(1000);
  client->start_writing();
  wait_for_writes(*client, 300);
  meddle(encode_command({"SET", "k:5", "4"}));
  const auto report = client->finish({}).get();
  EXPECT_EQ(report.lost, 1U);
  EXPECT_EQ(report.lost_examples, std::vector<std::uint64_t>{5});
}

TEST_F(RedisClientTest, MeasuresHowLongRedisStoodStill) {
  start_redis();
  auto client = connected_client(200);
  client->start_writing();
  wait_for_writes(*client, 50);
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_TRUE(redis_->kill(SIGSTOP));
  ::poll(nullptr, 0, 400);  // the outage itself
  ASSERT_TRUE(redis_->kill(SIGCONT));
  const auto stood_still = std::chrono::steady_clock::now() - begin;
  wait_for_writes(*client, 150);
  const auto report = client->finish({}).get();
  EXPECT_TRUE(report.connection_survived);
  EXPECT_EQ(report.lost, 0U);
  const auto silence = longest_silence(report.answers, begin, report.waiting_until);
  EXPECT_GE(silence, milliseconds(390));
  EXPECT_LE(silence, stood_still + milliseconds(100));
}

TEST_F(RedisClientTest, NeverHasMoreThanTheWindowUnanswered) {
  start_redis();
  auto client = connected_client(5000, 16);
  client->start_writing();
  wait_for_writes(*client, 100);
  ASSERT_TRUE(redis_->kill(SIGSTOP));
  // The window fills within milliseconds; nothing is sent beyond it for as long as one looks.
  const auto deadline = std::chrono::steady_clock::now() + milliseconds(300);
  while (std::chrono::steady_clock::now() < deadline) {
    const auto progress = client->progress();
    ASSERT_LE(progress.sent - progress.acknowledged, 16U);
    ::poll(nullptr, 0, 5);
  }
  ASSERT_TRUE(redis_->kill(SIGCONT));
  const auto report = client->finish({}).get();
  EXPECT_TRUE(report.connection_survived);
  EXPECT_EQ(report.lost, 0U);
}

TEST_F(RedisClientTest, GivesUpOnARedisThatNeverAnswersAgain) {
  start_redis();
  auto client = connected_client(500);
  client->start_writing();
  wait_for_writes(*client, 50);
  ASSERT_TRUE(redis_->kill(SIGSTOP));
  const auto deadline = std::chrono::steady_clock::now() + seconds(5);
  for (auto progress = client->progress(); progress.sent < progress.acknowledged + 5;
       progress = client->progress()) {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline);
    ::poll(nullptr, 0, 2);
  }
  const auto report = client->finish({milliseconds(300), milliseconds(300)}).get();
  EXPECT_FALSE(report.connection_survived);
  EXPECT_EQ(report.lost, report.acknowledged);
  ASSERT_TRUE(report.waiting_until.has_value());
}

TEST_F(RedisClientTest, WaitsForARedisThatStartsLate) {
  ClientOptions options;
  options.address = kServer;
  options.net = client_net_.get();
  RedisClient client(options);
  auto connecting = client.connect(seconds(20));
  EXPECT_EQ(connecting.wait_for(milliseconds(300)), std::future_status::timeout);
  start_redis();
  const auto connected = connecting.get();
  EXPECT_TRUE(connected) << connected.error().message;
}

TEST_F(RedisClientTest, SaysWhyItCouldNotConnect) {
  ClientOptions options;
  options.address = kServer;
  options.net = client_net_.get();
  RedisClient client(options);
  const auto connected = client.connect(milliseconds(300)).get();
  ASSERT_FALSE(connected);
  EXPECT_EQ(connected.error().code, Errc::timed_out);
  EXPECT_NE(connected.error().message.find("refused"), std::string::npos)
      << connected.error().message;
}

TEST_F(RedisClientTest, CanBeDroppedInTheMiddleOfAnything) {
  start_redis();
  {
    auto client = connected_client(500);
    client->start_writing();
    wait_for_writes(*client, 10);
  }
  ClientOptions options;
  options.address = "10.88.0.99";  // nobody
  options.net = client_net_.get();
  const auto begin = std::chrono::steady_clock::now();
  {
    RedisClient client(options);
    auto connecting = client.connect(seconds(60));
    EXPECT_EQ(connecting.wait_for(milliseconds(50)), std::future_status::timeout);
  }
  EXPECT_LT(std::chrono::steady_clock::now() - begin, seconds(5));
}

}  // namespace
}  // namespace tandem::demo
