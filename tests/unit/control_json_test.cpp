// The controller's values in JSON: what is read back is the same, and what makes no sense is
// refused by name.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/control/json.hpp"
#include "tests/unit/control_fixture.hpp"

namespace tandem::control {
namespace {

using controller::Controller;
using controller::Mode;
using controller::Policy;
using controller::Reason;
using nlohmann::json;
using testing::HasSubstr;

json through_text(const json& value) {
  return json::parse(value.dump());
}

TEST(ControlJson, AnUnknownPolicyIsToldWhichThereAre) {
  EXPECT_EQ(policy_from_string("hybrid").value(), Policy::hybrid);
  const auto wrong = policy_from_string("hybird");
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().code, Errc::invalid_input);
  EXPECT_EQ(wrong.error().message,
            "there is no policy \"hybird\"; expected one of periodic, colo, threshold, hybrid, "
            "adaptive");
}

TEST(ControlJson, ParametersAreSetByNameAndTheOthersStay) {
  controller::Parameters parameters;
  ASSERT_TRUE(set_parameters({{"window_s", 20}, {"hybrid_gain", 0.5}}, parameters));
  EXPECT_EQ(parameters.window_s, 20);
  EXPECT_EQ(parameters.hybrid_gain, 0.5);
  EXPECT_EQ(parameters.period_ms, controller::Parameters{}.period_ms);
  controller::Parameters copy;
  ASSERT_TRUE(set_parameters(through_text(to_json(parameters)), copy));
  EXPECT_EQ(copy, parameters);
}

TEST(ControlJson, AWrongParameterIsNamedAndNothingIsSet) {
  const std::vector<std::pair<json, std::string>> cases{
      {{{"window_s", 20}, {"windows", 1}}, "windows is not a parameter"},
      {{{"window_s", 20}, {"hybrid_gain", "1"}}, "hybrid_gain is not a number"},
      {{{"window_s", 20}, {"hybrid_gain", 101}}, "hybrid_gain is 101; expected 0 to 100"},
      {{{"window_s", 20}, {"period_ms", 250.5}}, "expected a whole number"},
      {{{"window_s", 20}, {"hybrid_bound_min", 0.6}}, "hybrid_bound_min is above"},
      {json::array(), "not an object"},
  };
  for (const auto& [object, expected] : cases) {
    controller::Parameters parameters;
    const auto set = set_parameters(object, parameters);
    ASSERT_FALSE(set) << expected;
    EXPECT_EQ(set.error().code, Errc::invalid_input);
    EXPECT_THAT(set.error().message, HasSubstr(expected));
    EXPECT_EQ(parameters, controller::Parameters{});
  }
}

TEST(ControlJson, ObservationsAndDecisionsAreReadBackToTheLastBit) {
  const controller::Observation observation{.time_s = 1e6 / 3,
                                            .mode = Mode::colo,
                                            .pause_s = 5e-324,
                                            .uptime_s = 0.1 + 0.2,
                                            .bytes = UINT64_MAX,
                                            .mismatches = 3};
  EXPECT_EQ(observation_from_json(through_text(to_json(observation))).value(), observation);
  for (int i = 0; i <= static_cast<int>(Reason::probe); ++i) {
    const controller::Decision decision{Mode::periodic, 1.0 / 3, static_cast<Reason>(i)};
    EXPECT_EQ(decision_from_json(through_text(to_json(decision))).value(), decision);
  }
}

TEST(ControlJson, WhatIsNoObservationIsRefused) {
  const auto right = to_json(controller::Observation{});
  const std::vector<std::pair<std::string, json>> cases{
      {"time_s", "1"}, {"mode", "both"},  {"mode", 1},    {"pause_s", nullptr},
      {"bytes", -1},   {"bytes", 1e300},  {"bytes", 0.5}, {"mismatches", json::array()},
      {"bytes", true}, {"uptime_s", true}};
  for (const auto& [key, value] : cases) {
    auto wrong = right;
    wrong[key] = value;
    const auto read = observation_from_json(wrong);
    ASSERT_FALSE(read) << wrong;
    EXPECT_EQ(read.error().code, Errc::invalid_input);
    EXPECT_THAT(read.error().message, HasSubstr("observation"));
    wrong.erase(key);
    EXPECT_FALSE(observation_from_json(wrong)) << key << " is missing";
  }
  EXPECT_FALSE(observation_from_json(json()));
}

class EveryPolicy : public testing::TestWithParam<Policy> {};
INSTANTIATE_TEST_SUITE_P(ControlJson, EveryPolicy, testing::ValuesIn(controller::policies),
                         [](const auto& tested) { return std::string(to_string(tested.param)); });

TEST_P(EveryPolicy, AControllerThatIsReadBackDecidesAsTheOriginal) {
  LoggedPair pair(GetParam());
  pair.live(60);
  const auto read = controller_from_json(through_text(to_json(pair.controller())));
  ASSERT_TRUE(read) << read.error().message;
  auto copy = *read;
  auto original = pair.controller();
  EXPECT_EQ(copy.last(), original.last());
  EXPECT_EQ(to_json(copy), to_json(original));
  for (int i = 0; i < 300; ++i) {
    const controller::Observation cycle{.time_s = 1e5 + i,
                                        .mode = original.last().mode,
                                        .pause_s = i % 7 * 0.01,
                                        .uptime_s = i % 50 < 25 ? 0.01 : 0.5};
    ASSERT_EQ(copy.decide(cycle), original.decide(cycle)) << i;
  }
}

TEST_P(EveryPolicy, AStateThatIsNoneIsRefused) {
  LoggedPair pair(GetParam());
  pair.live(30);
  const auto right = to_json(pair.controller());
  ASSERT_TRUE(controller_from_json(right));
  // Every number and text of it is replaced by what cannot stand there.
  const auto flat = right.flatten();
  for (const auto& [path, value] : flat.items()) {
    auto wrong = right;
    wrong[json::json_pointer(path)] = value.is_string() ? json("nonsense") : json("1");
    const auto read = controller_from_json(wrong);
    ASSERT_FALSE(read) << path;
    EXPECT_EQ(read.error().code, Errc::invalid_input);
  }
  for (const char* member : {"policy", "parameters", "state", "window", "last"}) {
    auto wrong = right;
    wrong.erase(member);
    EXPECT_FALSE(controller_from_json(wrong)) << member;
  }
}

TEST(ControlJson, AStateOutsideOfItsKindIsRefused) {
  auto hybrid = to_json(Controller(Policy::hybrid, {}));
  for (const json& value : {json(3), json(-1), json(1e300), json(0.5)}) {
    hybrid["state"]["state"] = value;
    EXPECT_FALSE(controller_from_json(hybrid)) << value;
  }
  auto fixed = to_json(Controller(Policy::colo, {}));
  fixed["state"]["mode"] = 2;
  EXPECT_FALSE(controller_from_json(fixed));
}

TEST(ControlJson, MoreCyclesThanAWindowHoldsAreNotKept) {
  auto periodic = to_json(Controller(Policy::periodic, {}));
  for (int i = 0; i < 2000; ++i) periodic["window"].push_back({i, 0.1, 0.1});
  const auto read = controller_from_json(periodic);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->window().size(), controller::Window::cycles_max);
}

}  // namespace
}  // namespace tandem::control
