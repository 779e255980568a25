// pcapng files, read back by hand and by tcpdump.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdio.h>
#include <sys/wait.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "base/base64.hpp"
#include "engine/cli/pcapng.hpp"
#include "engine/cli/trace_command.hpp"
#include "tests/unit/packet_builder.hpp"
#include "tests/unit/temporary_folder.hpp"

namespace tandem::cli {
namespace {

using namespace std::chrono_literals;
using proxy::test::Bytes;
using testing::ElementsAre;
using testing::HasSubstr;

template <class T>
T read(std::span<const std::byte> bytes, std::size_t at) {
  T value{};
  if (at + sizeof value > bytes.size()) {
    ADD_FAILURE() << "the file ends at " << bytes.size() << ", inside a field at " << at;
    return value;
  }
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

struct Block {
  std::uint32_t type = 0;
  Bytes body;
};

/// Every block, its two lengths compared.
std::vector<Block> blocks_of(std::span<const std::byte> file) {
  std::vector<Block> blocks;
  while (!file.empty()) {
    Block block;
    block.type = read<std::uint32_t>(file, 0);
    const auto length = read<std::uint32_t>(file, 4);
    EXPECT_EQ(length % 4, 0u);
    if (length < 12 || length > file.size()) {
      ADD_FAILURE() << "a block of " << length << " bytes";
      return blocks;
    }
    EXPECT_EQ(read<std::uint32_t>(file, length - 4), length);
    block.body.assign(file.begin() + 8, file.begin() + length - 4);
    blocks.push_back(std::move(block));
    file = file.subspan(length);
  }
  return blocks;
}

/// Code and value of each option, up to the end of options.
std::vector<std::pair<int, std::string>> options_of(const Bytes& body, std::size_t at) {
  std::vector<std::pair<int, std::string>> options;
  while (at < body.size()) {
    const auto code = read<std::uint16_t>(body, at);
    const std::size_t length = read<std::uint16_t>(body, at + 2);
    at += 4;
    if (code == 0) {
      EXPECT_EQ(length, 0u);
      EXPECT_EQ(at, body.size());
      return options;
    }
    if (at + length > body.size()) {
      ADD_FAILURE() << "an option of " << length << " bytes";
      return options;
    }
    options.emplace_back(code,
                         std::string(reinterpret_cast<const char*>(body.data() + at), length));
    at += (length + 3) / 4 * 4;
  }
  if (!options.empty()) ADD_FAILURE() << "options without an end";
  return options;
}

Bytes ethernet(const Bytes& frame) {
  return {frame.begin() + 8 + 12, frame.end()};
}

std::vector<CapturedFrame> frames() {
  return {{"n0 primary", 1'700'000'000'123'456us, "epoch 3: released",
           ethernet(proxy::test::tcp({.payload = "hello"}))},
          {"n0 secondary", 1'700'000'000'123'457us, "epoch 3: the same",
           ethernet(proxy::test::tcp({.payload = "odd!!"}))},
          {"n0 primary", 1'700'000'001'000'000us, "", ethernet(proxy::test::arp())},
          {"n0 client", 1'700'000'002'000'000us, "epoch 4",
           ethernet(proxy::test::udp({.payload = proxy::test::pattern(60'000)}))}};
}

Bytes file_of(const std::vector<CapturedFrame>& captured) {
  Bytes file;
  PcapngWriter writer("tandem test", file);
  for (const auto& frame : captured) writer.add(frame, file);
  return file;
}

TEST(Pcapng, BeginsWithASectionOfKnownByteOrderAndVersion) {
  const auto blocks = blocks_of(file_of({}));
  ASSERT_EQ(blocks.size(), 1u);
  EXPECT_EQ(blocks[0].type, 0x0a0d0d0au);
  EXPECT_EQ(read<std::uint32_t>(blocks[0].body, 0), 0x1a2b3c4du);
  EXPECT_EQ(read<std::uint16_t>(blocks[0].body, 4), 1);
  EXPECT_EQ(read<std::uint16_t>(blocks[0].body, 6), 0);
  EXPECT_EQ(read<std::int64_t>(blocks[0].body, 8), -1);
  EXPECT_THAT(options_of(blocks[0].body, 16), ElementsAre(std::pair(4, "tandem test")));
}

TEST(Pcapng, EveryInterfaceIsDescribedOnceBeforeItsFirstFrame) {
  const auto blocks = blocks_of(file_of(frames()));
  std::vector<std::uint32_t> types;
  std::vector<std::string> names;
  for (const auto& block : blocks) {
    types.push_back(block.type);
    if (block.type != 1) continue;
    EXPECT_EQ(read<std::uint16_t>(block.body, 0), 1) << "Ethernet";
    EXPECT_EQ(read<std::uint32_t>(block.body, 4), 0u) << "no limit of length";
    const auto options = options_of(block.body, 8);
    ASSERT_EQ(options.size(), 2u);
    EXPECT_EQ(options[0].first, 2);
    names.push_back(options[0].second);
    EXPECT_EQ(options[1], std::pair(9, std::string("\x06"))) << "microseconds";
  }
  EXPECT_THAT(types, ElementsAre(0x0a0d0d0au, 1, 6, 1, 6, 6, 1, 6));
  EXPECT_THAT(names, ElementsAre("n0 primary", "n0 secondary", "n0 client"));
}

TEST(Pcapng, FramesComeBackWithTimeInterfaceAndComment) {
  const auto expected = frames();
  const std::vector<std::uint32_t> interfaces{0, 1, 0, 2};
  std::size_t i = 0;
  for (const auto& block : blocks_of(file_of(expected))) {
    if (block.type != 6) continue;
    ASSERT_LT(i, expected.size());
    const auto& frame = expected[i];
    EXPECT_EQ(read<std::uint32_t>(block.body, 0), interfaces[i]);
    const auto time = std::uint64_t{read<std::uint32_t>(block.body, 4)} << 32 |
                      read<std::uint32_t>(block.body, 8);
    EXPECT_EQ(time, static_cast<std::uint64_t>(frame.time.count()));
    EXPECT_EQ(read<std::uint32_t>(block.body, 12), frame.frame.size());
    EXPECT_EQ(read<std::uint32_t>(block.body, 16), frame.frame.size());
    ASSERT_GE(block.body.size(), 20 + frame.frame.size());
    EXPECT_TRUE(std::equal(frame.frame.begin(), frame.frame.end(), block.body.begin() + 20));
    const auto options = options_of(block.body, 20 + (frame.frame.size() + 3) / 4 * 4);
    if (frame.comment.empty()) {
      EXPECT_TRUE(options.empty());
    } else {
      EXPECT_THAT(options, ElementsAre(std::pair(1, frame.comment)));
    }
    ++i;
  }
  EXPECT_EQ(i, expected.size());
}

TEST(Pcapng, EveryLengthIsPadded) {
  for (std::size_t size = 0; size < 9; ++size) {
    const Bytes frame(size, std::byte{0xee});
    const auto blocks = blocks_of(file_of({{"x", 1us, std::string(size, 'c'), frame}}));
    ASSERT_EQ(blocks.size(), 3u);
    const auto options = options_of(blocks[2].body, 20 + (size + 3) / 4 * 4);
    if (size > 0) {
      EXPECT_THAT(options, ElementsAre(std::pair(1, std::string(size, 'c'))));
    }
  }
}

TEST(Pcapng, ATextTooLongForAnOptionIsCut) {
  const auto blocks = blocks_of(file_of({{"x", 1us, std::string(70'000, 'c'), {}}}));
  ASSERT_EQ(blocks.size(), 3u);
  EXPECT_THAT(options_of(blocks[2].body, 20), ElementsAre(std::pair(1, std::string(65'535, 'c'))));
}

TEST(Pcapng, ATimeBefore1970IsShownAsItsBeginning) {
  const auto blocks = blocks_of(file_of({{"x", -1us, "", {}}}));
  ASSERT_EQ(blocks.size(), 3u);
  EXPECT_EQ(read<std::uint64_t>(blocks[2].body, 4), 0u);
}

TEST(Pcapng, TcpdumpReadsIt) {
  if (::system("command -v tcpdump >/dev/null") != 0) GTEST_SKIP() << "tcpdump is not installed";
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "t.pcapng";
  const auto file = file_of(frames());
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(file.data()), static_cast<std::streamsize>(file.size()));
  const auto command = "TZ=UTC tcpdump -n -tt -r '" + path.string() + "' 2>&1";
  FILE* const pipe = ::popen(command.c_str(), "r");
  ASSERT_NE(pipe, nullptr);
  std::string said(1 << 16, '\0');
  said.resize(::fread(said.data(), 1, said.size(), pipe));
  EXPECT_EQ(::pclose(pipe), 0) << said;
  EXPECT_THAT(said, HasSubstr("1700000000.123456 IP 10.0.0.2.6379 > 10.0.0.1.40000: Flags [.], seq "
                              "1000:1005, ack 2000, win 501, length 5"));
  EXPECT_THAT(said, HasSubstr("1700000000.123457 IP 10.0.0.2.6379"));
  EXPECT_THAT(said, HasSubstr("1700000001.000000 ARP, Request who-has 10.0.0.1 tell 10.0.0.2"));
  EXPECT_THAT(said, HasSubstr("1700000002.000000 IP 10.0.0.2.53 > 10.0.0.1.40000"));
}

nlohmann::json a_record() {
  return {{"seq", 4},
          {"time", 1'700'000'000.123456},
          {"nic", "n0"},
          {"side", "primary"},
          {"epoch", 12u},
          {"comment", "split at 1448"},
          {"frame", encode_base64(ethernet(proxy::test::arp()))}};
}

TEST(CapturedFrame, IsARecordOfTheTrace) {
  const auto frame = captured_frame(a_record());
  ASSERT_TRUE(frame) << frame.error().message;
  EXPECT_EQ(frame->interface, "n0 primary");
  EXPECT_EQ(frame->time, 1'700'000'000'123'456us);
  EXPECT_EQ(frame->comment, "epoch 12: split at 1448");
  EXPECT_EQ(frame->frame, ethernet(proxy::test::arp()));
  auto record = a_record();
  record["comment"] = "";
  EXPECT_EQ(captured_frame(record)->comment, "epoch 12");
}

TEST(CapturedFrame, WhateverElseIsRefused) {
  const std::vector<nlohmann::json> strange{
      nullptr, true, -1, "\xff", nlohmann::json::array({1}), nlohmann::json::object()};
  for (const auto& other : strange) EXPECT_FALSE(captured_frame(other));
  const auto record = a_record();
  for (const auto& [key, value] : record.items()) {
    auto without = record;
    without.erase(key);
    if (key != "seq" && key != "epoch") {
      EXPECT_EQ(captured_frame(without).error().code, Errc::protocol) << key;
    }
    for (const auto& other : strange) {
      auto changed = record;
      changed[key] = other;
      const auto frame = captured_frame(changed);
      if (!frame) {
        EXPECT_EQ(frame.error().code, Errc::protocol) << key;
      }
    }
  }
  const std::vector<std::pair<double, std::chrono::microseconds>> times{
      {-1.0, 0us}, {0.0, 0us}, {1e300, std::chrono::microseconds(1'000'000'000'000'000'000)}};
  for (const auto& [seconds, time] : times) {
    auto changed = record;
    changed["time"] = seconds;
    EXPECT_EQ(captured_frame(changed)->time, time);
  }
}

}  // namespace
}  // namespace tandem::cli
