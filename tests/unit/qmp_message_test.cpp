#include "qmp/message.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <string>

namespace tandem::qmp {
namespace {

using nlohmann::json;
using std::chrono::microseconds;
using std::chrono::seconds;
using std::chrono::system_clock;

TEST(QmpMessage, ReadsTheGreeting) {
  const auto message =
      parse_message(R"({"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7},)"
                    R"( "package": "Debian 1:7.2"}, "capabilities": ["oob", "new"]}})");
  ASSERT_TRUE(message);
  const auto& greeting = std::get<Greeting>(*message);
  EXPECT_EQ(greeting.version, (Version{7, 2, 22, "Debian 1:7.2"}));
  EXPECT_EQ(to_string(greeting.version), "7.2.22");
  EXPECT_TRUE(greeting.offers_out_of_band);
}

TEST(QmpMessage, AGreetingWithoutCapabilitiesOffersNone) {
  for (const char* const capabilities :
       {"", R"(, "capabilities": [])", R"(, "capabilities": ["x", 1])"}) {
    const auto message = parse_message(
        std::string(R"({"QMP": {"version": {"qemu": {"micro": 0, "minor": 0, "major": 2}})") +
        capabilities + "}}");
    ASSERT_TRUE(message) << capabilities;
    EXPECT_FALSE(std::get<Greeting>(*message).offers_out_of_band);
  }
}

TEST(QmpMessage, ReadsAnEventWithQemusOwnTime) {
  const auto message =
      parse_message(R"({"timestamp": {"seconds": 1700000000, "microseconds": 123456},)"
                    R"( "event": "COLO_EXIT", "data": {"mode": "primary", "reason": "request"}})");
  ASSERT_TRUE(message);
  const auto& event = std::get<Event>(*message);
  EXPECT_EQ(event.name, "COLO_EXIT");
  EXPECT_EQ(event.data["reason"], "request");
  EXPECT_EQ(event.at, system_clock::time_point(seconds(1700000000) + microseconds(123456)));
}

TEST(QmpMessage, AnEventWithoutDataHasAnEmptyObject) {
  const auto message =
      parse_message(R"({"timestamp": {"seconds": -1, "microseconds": -1}, "event": "STOP"})");
  ASSERT_TRUE(message);
  EXPECT_EQ(std::get<Event>(*message).data, json::object());
  EXPECT_EQ(std::get<Event>(*message).at, system_clock::time_point());
}

TEST(QmpMessage, ReadsReplies) {
  const auto done = parse_message(R"({"return": {"running": true}, "id": 7})");
  ASSERT_TRUE(done);
  EXPECT_EQ(std::get<Reply>(*done).id, 7U);
  EXPECT_EQ((*std::get<Reply>(*done).outcome)["running"], true);

  const auto refused = parse_message(
      R"({"id": 18446744073709551615, "error": {"class": "GenericError", "desc": "no such thing"}})");
  ASSERT_TRUE(refused);
  EXPECT_EQ(std::get<Reply>(*refused).id, 18446744073709551615U);
  EXPECT_EQ(std::get<Reply>(*refused).outcome.error(),
            (Error{Errc::refused, "GenericError: no such thing"}));
}

TEST(QmpMessage, AReturnValueMayBeOfAnyType) {
  for (const char* const value : {"null", "[]", "[1]", "\"text\"", "3", "false", "{}"}) {
    const auto message = parse_message(std::string(R"({"return": )") + value + R"(, "id": 1})");
    ASSERT_TRUE(message) << value;
    EXPECT_EQ(*std::get<Reply>(*message).outcome, json::parse(value));
  }
}

TEST(QmpMessage, RefusesWhatIsNoMessage) {
  const std::string time = R"("timestamp": {"seconds": 1, "microseconds": 1})";
  const std::string wrong[] = {
      "",
      " ",
      "hello",
      "{",
      "[]",
      "null",
      "7",
      "{}",
      "{\"id\": 1}",
      "{\"return\": {}, \"id\": 1} trailing",
      "{\"return\": \"\xff\", \"id\": 1}",
      "{\"return\": 1e999, \"id\": 1}",
      R"({"return": {}})",
      R"({"return": {}, "id": "1"})",
      R"({"return": {}, "id": -1})",
      R"({"return": {}, "id": 1.0})",
      R"({"return": {}, "id": null})",
      R"({"return": {}, "error": {"class": "a", "desc": "b"}, "id": 1})",
      R"({"return": {}, "id": 1, "event": "STOP"})",
      R"({"error": {}, "id": 1})",
      R"({"error": "text", "id": 1})",
      R"({"error": {"class": 1, "desc": "b"}, "id": 1})",
      R"({"error": {"class": "a", "desc": []}, "id": 1})",
      R"({"error": {"class": "GenericError", "desc": "JSON parse error"}})",
      R"({"event": "STOP"})",
      R"({"event": "STOP", "timestamp": 1})",
      R"({"event": "STOP", "timestamp": {}})",
      R"({"event": "STOP", "timestamp": {"seconds": "1", "microseconds": 1}})",
      R"({"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 1000000}})",
      R"({"event": "STOP", "timestamp": {"seconds": 18446744073709551615, "microseconds": 1}})",
      R"({"event": "STOP", "timestamp": {"seconds": 9223372036854775807, "microseconds": 1}})",
      R"({"event": 1, )" + time + "}",
      R"({"event": "STOP", "data": [], )" + time + "}",
      R"({"QMP": {}})",
      R"({"QMP": []})",
      R"({"QMP": {"version": {}}})",
      R"({"QMP": {"version": {"qemu": {"major": 7, "minor": 2}}}})",
      R"({"QMP": {"version": {"qemu": {"major": 7.5, "minor": 2, "micro": 1}}}})",
      R"({"QMP": {"version": {"qemu": {"major": 99999999999, "minor": 2, "micro": 1}}}})",
      R"({"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 1}, "package": 1}}})",
      R"({"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 1}}, "capabilities": {}}})",
  };
  for (const std::string& line : wrong) {
    const auto message = parse_message(line);
    ASSERT_FALSE(message) << line;
    EXPECT_EQ(message.error().code, Errc::protocol) << line;
    EXPECT_FALSE(message.error().message.empty());
  }
}

TEST(QmpMessage, BoundsTheNesting) {
  const auto nested = [](int depth) {
    // The message itself is one level.
    const auto count = static_cast<std::size_t>(depth - 1);
    return R"({"return": )" + std::string(count, '[') + std::string(count, ']') + R"(, "id": 1})";
  };
  EXPECT_TRUE(parse_message(nested(nesting_max)));
  const auto too_deep = parse_message(nested(nesting_max + 1));
  ASSERT_FALSE(too_deep);
  EXPECT_EQ(too_deep.error().code, Errc::limit);
  // A million levels that never close must not cost more than looking at them.
  EXPECT_FALSE(parse_message(std::string(1'000'000, '[')));
}

TEST(QmpMessage, BracketsWithinStringsDoNotNest) {
  const std::string text(1000, '[');
  const auto message = parse_message(R"({"return": "\"\\)" + text + R"(", "id": 1})");
  ASSERT_TRUE(message);
  EXPECT_EQ(*std::get<Reply>(*message).outcome, "\"\\" + text);
}

RC_GTEST_PROP(QmpMessage, ADamagedMessageIsReadOrRefusedButDoesNothingElse,
              (std::uint16_t at, std::uint8_t byte, bool insert)) {
  static const std::string whole =
      R"({"timestamp": {"seconds": 1700000000, "microseconds": 1}, "event": "X", "data": {"a": [1]}})";
  std::string damaged = whole;
  const std::size_t position = at % whole.size();
  if (insert) {
    damaged.insert(position, 1, static_cast<char>(byte));
  } else {
    damaged[position] = static_cast<char>(byte);
  }
  const auto message = parse_message(damaged);
  if (message) {
    RC_ASSERT(std::holds_alternative<Event>(*message));
  } else {
    RC_ASSERT(message.error().code == Errc::protocol);
  }
}

}  // namespace
}  // namespace tandem::qmp
