#include "qmp/line_reader.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace tandem::qmp {
namespace {

/// Feeds `bytes` in pieces of at most `piece` bytes; the lines, and whether it ended with an error.
struct Outcome {
  std::vector<std::string> lines;
  bool failed = false;
  friend bool operator==(const Outcome&, const Outcome&) = default;
};

Outcome feed(const std::vector<std::string>& pieces, std::size_t line_bytes_max) {
  LineReader reader(line_bytes_max);
  Outcome outcome;
  for (const std::string& piece : pieces) {
    for (std::size_t at = 0; at < piece.size();) {
      const auto space = reader.prepare();
      const std::size_t count = std::min(space.size(), piece.size() - at);
      std::copy_n(piece.data() + at, count, space.data());
      reader.commit(count);
      at += count;
      while (true) {
        auto line = reader.next();
        if (!line) {
          EXPECT_EQ(line.error().code, Errc::limit);
          outcome.failed = true;
          return outcome;
        }
        if (!*line) break;
        outcome.lines.emplace_back(**line);
      }
    }
  }
  return outcome;
}

TEST(QmpLineReader, GivesEachLineWithoutItsEnd) {
  const Outcome outcome = feed({"one\r\ntwo\n\nrest"}, 100);
  EXPECT_EQ(outcome.lines, (std::vector<std::string>{"one", "two", ""}));
}

TEST(QmpLineReader, KnowsWhetherALineHasBegun) {
  LineReader reader(100);
  EXPECT_FALSE(reader.in_line());
  reader.prepare()[0] = 'x';
  reader.commit(1);
  EXPECT_TRUE(reader.in_line());
}

TEST(QmpLineReader, AcceptsALineOfExactlyTheLimitHoweverItIsCut) {
  const std::string line(10, 'x');
  for (const std::string end : {"\n", "\r\n"}) {
    const std::string text = line + end + line + end;
    for (std::size_t cut = 0; cut <= text.size(); ++cut) {
      const Outcome outcome = feed({text.substr(0, cut), text.substr(cut)}, line.size());
      EXPECT_EQ(outcome.lines, (std::vector<std::string>{line, line})) << "cut at " << cut;
    }
  }
}

TEST(QmpLineReader, RefusesALineOverTheLimitEndedOrNot) {
  EXPECT_TRUE(feed({"ok\n", "12345678901"}, 10).failed);
  EXPECT_TRUE(feed({"ok\n", "12345678901\n"}, 10).failed);
  EXPECT_FALSE(feed({"ok\n", "1234567890"}, 10).failed);
}

TEST(QmpLineReader, CarriesLinesMuchLargerThanOneRead) {
  const std::string big(1'000'000, 'y');
  const Outcome outcome = feed({big + "\nsmall\n" + big + "\n"}, big.size());
  EXPECT_EQ(outcome.lines, (std::vector<std::string>{big, "small", big}));
}

TEST(QmpLineReader, HoldsNoMoreThanALineAndARead) {
  // An endless line: prepare() must come to an end of its growth.
  LineReader reader(std::size_t{1} << 20);
  std::size_t fed = 0;
  while (reader.next()) {
    const auto space = reader.prepare();
    std::fill(space.begin(), space.end(), 'z');
    reader.commit(space.size());
    fed += space.size();
    ASSERT_LE(fed, (std::size_t{1} << 20) + space.size());
  }
}

RC_GTEST_PROP(QmpLineReader, GivesTheSameLinesHoweverTheBytesAreCut,
              (const std::vector<std::vector<bool>>& lines,
               const std::vector<std::uint8_t>& cuts)) {
  std::string text;
  for (const auto& line : lines)
    text += std::string(line.size(), line.size() % 2 ? 'a' : 'b') + "\r\n";
  std::vector<std::string> pieces;
  std::size_t at = 0;
  for (const std::uint8_t cut : cuts) {
    if (at >= text.size()) break;
    pieces.push_back(text.substr(at, cut % 7));
    at += pieces.back().size();
  }
  if (at < text.size()) pieces.push_back(text.substr(at));
  RC_ASSERT(feed(pieces, 50) == feed({text}, 50));
}

}  // namespace
}  // namespace tandem::qmp
