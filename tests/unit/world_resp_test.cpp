// The redis protocol of the demo's client: every reply in every chunking, and what must be refused.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <vector>

#include "experiments/demo/resp.hpp"

namespace tandem::demo {
namespace {

using Kind = RespValue::Kind;

std::string wire(const RespValue& value) {
  switch (value.kind) {
    case Kind::simple:
      return "+" + value.text + "\r\n";
    case Kind::error:
      return "-" + value.text + "\r\n";
    case Kind::integer:
      return ":" + std::to_string(value.integer) + "\r\n";
    case Kind::bulk:
      return "$" + std::to_string(value.text.size()) + "\r\n" + value.text + "\r\n";
    case Kind::nil:
      return "$-1\r\n";
  }
  return {};
}

TEST(Resp, EncodesACommandAsRedisDocumentsIt) {
  EXPECT_EQ(encode_command({"SET", "k:1", ""}), "*3\r\n$3\r\nSET\r\n$3\r\nk:1\r\n$0\r\n\r\n");
}

TEST(Resp, ReadsEveryKindOfReply) {
  RespParser parser;
  ASSERT_TRUE(parser.feed("+OK\r\n-ERR no\r\n:-12\r\n$4\r\n\r\n\r\n\r\n$-1\r\n").has_value());
  EXPECT_EQ(parser.next()->value(), (RespValue{Kind::simple, "OK", 0}));
  EXPECT_EQ(parser.next()->value(), (RespValue{Kind::error, "ERR no", 0}));
  EXPECT_EQ(parser.next()->value(), (RespValue{Kind::integer, "", -12}));
  EXPECT_EQ(parser.next()->value(), (RespValue{Kind::bulk, "\r\n\r\n", 0}));
  EXPECT_EQ(parser.next()->value(), (RespValue{Kind::nil, "", 0}));
  EXPECT_EQ(*parser.next(), std::nullopt);
}

RC_GTEST_PROP(Resp, ReadsTheSameRepliesInAnyChunking, ()) {
  std::vector<RespValue> values;
  std::string bytes;
  for (int i = *rc::gen::inRange(1, 20); i > 0; --i) {
    RespValue value;
    value.kind = *rc::gen::element(Kind::simple, Kind::error, Kind::integer, Kind::bulk, Kind::nil);
    if (value.kind == Kind::bulk) value.text = *rc::gen::string<std::string>();
    if (value.kind == Kind::simple || value.kind == Kind::error)
      value.text = *rc::gen::container<std::string>(rc::gen::inRange('a', 'z'));
    if (value.kind == Kind::integer) value.integer = *rc::gen::arbitrary<std::int64_t>();
    bytes += wire(value);
    values.push_back(std::move(value));
  }
  RespParser parser;
  std::vector<RespValue> read;
  std::string_view rest = bytes;
  while (!rest.empty()) {
    const auto size = *rc::gen::inRange<std::size_t>(1, std::min<std::size_t>(rest.size(), 9) + 1);
    RC_ASSERT(parser.feed(rest.substr(0, size)).has_value());
    rest.remove_prefix(size);
    for (;;) {
      auto value = parser.next();
      RC_ASSERT(value.has_value());
      if (!*value) break;
      read.push_back(std::move(**value));
    }
  }
  RC_ASSERT(read == values);
}

RC_GTEST_PROP(Resp, NeverReadsAReplyOutOfAnUnfinishedOne, ()) {
  RespValue value;
  value.kind = *rc::gen::element(Kind::simple, Kind::bulk, Kind::integer, Kind::nil);
  value.text = *rc::gen::container<std::string>(rc::gen::inRange('a', 'z'));
  const std::string bytes = wire(value);
  const auto size = *rc::gen::inRange<std::size_t>(0, bytes.size());
  RespParser parser;
  RC_ASSERT(parser.feed(bytes.substr(0, size)).has_value());
  const auto got = parser.next();
  RC_ASSERT(got.has_value());
  RC_ASSERT(*got == std::nullopt);
}

Errc error_after(std::string_view bytes, RespParser::Limits limits = {}) {
  RespParser parser(limits);
  if (auto fed = parser.feed(bytes); !fed) return fed.error().code;
  const auto got = parser.next();
  EXPECT_FALSE(got.has_value()) << bytes;
  // An error is for ever: whatever comes now could be anything.
  EXPECT_FALSE(parser.next().has_value());
  EXPECT_FALSE(parser.feed("+OK\r\n").has_value());
  return got.has_value() ? Errc::io : got.error().code;
}

TEST(Resp, RefusesWhatIsNoReply) {
  for (const auto* bytes : {"\r\n", "OK\r\n", "*1\r\n", ":\r\n", ":1x\r\n", "$\r\n", "$-2\r\n",
                            "$x\r\n", "$1\r\nab\r\n", "$0\r\nxy"})
    EXPECT_EQ(error_after(bytes), Errc::protocol) << bytes;
}

TEST(Resp, RefusesWhatIsTooLong) {
  RespParser::Limits limits;
  limits.line_bytes = 16;
  limits.bulk_bytes = 8;
  limits.buffered_bytes = 64;
  EXPECT_EQ(error_after("+1234567890123456", limits), Errc::limit);
  EXPECT_EQ(error_after("+12345678901234\r\n", limits), Errc::limit);
  EXPECT_EQ(error_after("$9\r\n", limits), Errc::limit);
  EXPECT_EQ(error_after("$99999999999\r\n", limits), Errc::limit);
  EXPECT_EQ(error_after(std::string(65, '+'), limits), Errc::limit);
}

TEST(Resp, AcceptsWhatIsJustNotTooLong) {
  RespParser::Limits limits;
  limits.line_bytes = 16;
  limits.bulk_bytes = 8;
  RespParser parser(limits);
  ASSERT_TRUE(parser.feed("+1234567890123\r\n$8\r\n12345678\r\n").has_value());
  EXPECT_EQ(parser.next()->value().text, "1234567890123");
  EXPECT_EQ(parser.next()->value().text, "12345678");
}

}  // namespace
}  // namespace tandem::demo
