// The first message of a pair: what the primary tells the secondary's daemon.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/session/setup.hpp"

namespace tandem::session {
namespace {

using testing::HasSubstr;
using namespace std::chrono_literals;

Setup example() {
  Setup setup;
  setup.definition.name = "demo";
  setup.definition.memory_mib = 128;
  setup.definition.kernel = "/boot/vmlinux";
  setup.settings.vm = "demo";
  setup.settings.host = "alpha";
  setup.settings.peer = "beta";
  setup.settings.generation = 7;
  setup.settings.heartbeat = 50ms;
  setup.settings.heartbeat_timeout = 200ms;
  setup.settings.policy = controller::Policy::hybrid;
  setup.settings.parameters.period_ms = 100;
  setup.accelerator = "tcg";
  setup.qemu_version = "7.2.22";
  setup.arbiter = "local:/srv/arbiter";
  return setup;
}

nlohmann::json example_json() {
  return nlohmann::json::parse(encode_setup(example()));
}

TEST(Setup, RoundTripsEveryField) {
  const auto setup = example();
  const auto decoded = decode_setup(encode_setup(setup));
  ASSERT_TRUE(decoded) << decoded.error().message;
  EXPECT_EQ(decoded->definition, setup.definition);
  EXPECT_EQ(decoded->settings.vm, "demo");
  EXPECT_EQ(decoded->settings.host, "alpha");
  EXPECT_EQ(decoded->settings.peer, "beta");
  EXPECT_EQ(decoded->settings.generation, 7u);
  EXPECT_EQ(decoded->settings.heartbeat, 50ms);
  EXPECT_EQ(decoded->settings.heartbeat_timeout, 200ms);
  EXPECT_EQ(decoded->settings.policy, controller::Policy::hybrid);
  EXPECT_EQ(decoded->settings.parameters, setup.settings.parameters);
  EXPECT_EQ(decoded->accelerator, setup.accelerator);
  EXPECT_EQ(decoded->qemu_version, "7.2.22");
  EXPECT_EQ(decoded->arbiter, "local:/srv/arbiter");
}

TEST(Setup, TheCheckpointLimitFollowsFromTheVmsMemoryAndNotFromThePeer) {
  auto setup = example();
  setup.settings.checkpoint_bytes_max = UINT64_MAX;
  const auto decoded = decode_setup(encode_setup(setup));
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->settings.checkpoint_bytes_max, checkpoint_bytes_max(128));
}

TEST(Setup, EveryMissingOrMistypedFieldIsRefused) {
  const auto whole = example_json();
  for (const auto& [key, value] : whole.items()) {
    auto json = example_json();
    json.erase(key);
    ASSERT_FALSE(decode_setup(json.dump())) << "without " << key;
    EXPECT_THAT(decode_setup(json.dump()).error().message, HasSubstr(key));
    for (const nlohmann::json& wrong : {nlohmann::json(), nlohmann::json{{"a", 1}}}) {
      json[key] = wrong;
      const auto decoded = decode_setup(json.dump());
      ASSERT_FALSE(decoded) << key << " = " << wrong;
      EXPECT_EQ(decoded.error().code, Errc::invalid_input);
    }
  }
}

TEST(Setup, DurationsOutOfRangeAreRefusedByName) {
  for (const std::string key : {"heartbeat_ms", "heartbeat_timeout_ms"}) {
    for (const std::int64_t value : {std::int64_t{-1}, std::int64_t{0}, std::int64_t{9},
                                     std::int64_t{60'001}, INT64_MAX, INT64_MIN}) {
      auto json = example_json();
      json[key] = value;
      const auto decoded = decode_setup(json.dump());
      ASSERT_FALSE(decoded) << key << " = " << value;
      EXPECT_THAT(decoded.error().message, HasSubstr(key));
    }
  }
}

TEST(Setup, AnInvalidVmIsRefused) {
  auto json = example_json();
  json["vm"]["name"] = "../../etc";
  const auto decoded = decode_setup(json.dump());
  ASSERT_FALSE(decoded);
  EXPECT_THAT(decoded.error().message, HasSubstr("vm"));
}

TEST(Setup, EveryTruncationAndWhatIsNotJsonIsRefused) {
  const auto text = encode_setup(example());
  for (std::size_t length = 0; length < text.size(); ++length) {
    ASSERT_FALSE(decode_setup(std::string_view(text).substr(0, length))) << length;
  }
  for (const std::string_view foreign : {"", "[]", "null", "7", "\xff", "GET / HTTP/1.1"}) {
    EXPECT_FALSE(decode_setup(foreign)) << foreign;
  }
}

}  // namespace
}  // namespace tandem::session
