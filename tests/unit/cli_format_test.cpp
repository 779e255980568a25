// How the command line writes numbers, times, tables and whatever a daemon may answer.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <time.h>

#include <cmath>

#include "engine/cli/format.hpp"

namespace tandem::cli {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

json a_vm() {
  return json::parse(R"({
    "name": "web", "role": "primary", "state": "protected", "protected": true, "generation": 3,
    "peer": "beta", "policy": "periodic", "mode": "periodic", "qemu_pid": 4711,
    "checkpoints": {"last": 121, "committed": 120, "loaded": 119, "in_flight": 1},
    "pause_ms": {"count": 120, "mean": 4.56, "p50": 4.1, "p99": 12.3, "max": 20.0},
    "stopped_ratio": 0.0182, "dirty_bytes": 1048576, "wire_bytes": 2097152,
    "checkpoint_bytes_largest": 600000,
    "gate": {"held_frames": 7, "held_bytes": 700, "captured_frames": 90, "released_frames": 80,
             "dropped_frames": 3, "drained_frames": 2},
    "compare": {"released_frames": 0, "split_frames": 0, "committed_frames": 0,
                "dropped_frames": 0, "secondary_frames": 0, "compared_bytes": 0,
                "waiting_frames": 0, "waiting_bytes": 0, "flows": 0,
                "mismatches": {"payload": 0, "length": 0, "event": 0, "timeout": 0, "overflow": 0,
                               "unparsable": 0},
                "mismatch_checkpoints": 0, "mismatch_flows": []},
    "input": {"mirrored_frames": 0, "fed_frames": 0, "stale_frames": 0, "dropped_frames": 0},
    "translations": 0, "failover": null, "last_error": null,
    "controller": {"state": "periodic", "mode": "periodic", "due_ms": 250.0, "reason": "fixed",
      "decisions": 120, "mode_changes": 0,
      "figures": {"downtime_ratio": 0.01234, "checkpoints_per_second": 3.9012},
      "parameters": {"period_ms": 250.0}}})");
}

/// The same in colo mode.
json a_colo_vm() {
  auto vm = a_vm();
  vm["policy"] = "colo";
  vm["mode"] = "colo";
  vm["compare"] = json::parse(R"({
    "released_frames": 5000, "split_frames": 12, "committed_frames": 34, "dropped_frames": 5,
    "secondary_frames": 5001, "compared_bytes": 1572864, "waiting_frames": 6, "waiting_bytes": 4096,
    "flows": 78,
    "mismatches": {"payload": 2, "length": 0, "event": 0, "timeout": 9, "overflow": 0,
                   "unparsable": 0},
    "mismatch_checkpoints": 7,
    "mismatch_flows": [
      {"flow": "udp 10.0.0.2:53 > 10.0.0.1:1111", "count": 1, "reason": "length",
       "detail": "40 and 44 bytes", "time": 1772368496.5},
      {"flow": "tcp 10.0.0.2:80 > 10.0.0.1:2222", "count": 4, "reason": "timeout",
       "detail": "only one has sent", "time": 1772368495.5},
      {"flow": "", "count": 1, "reason": "overflow", "detail": "no room", "time": 1772368494.5},
      {"flow": "tcp 4", "count": 1, "reason": "payload", "detail": "", "time": 1},
      {"flow": "tcp 5", "count": 1, "reason": "payload", "detail": "", "time": 1},
      {"flow": "tcp 6", "count": 1, "reason": "payload", "detail": "", "time": 1}]})");
  vm["input"] = json::parse(R"({"mirrored_frames": 901, "fed_frames": 902, "stale_frames": 903,
                                "dropped_frames": 904})");
  vm["translations"] = 3;
  return vm;
}

json a_status() {
  return {
      {"host", "alpha"},
      {"version", "0.1.0"},
      {"guardian_pid", 1},
      {"worker_pid", 2},
      {"qemu", {{"version", "7.2.22"}, {"accel", "tcg"}, {"shim", true}, {"accel_reason", "x"}}},
      {"vms", {a_vm()}}};
}

TEST(CliFormat, BytesHaveThreeDigitsAndAUnit) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(999), "999 B");
  EXPECT_EQ(format_bytes(1000), "1.0 KiB");
  EXPECT_EQ(format_bytes(1536), "1.5 KiB");
  EXPECT_EQ(format_bytes(10 * 1024), "10 KiB");
  EXPECT_EQ(format_bytes(250ull << 20), "250 MiB");
  EXPECT_EQ(format_bytes(1023ull << 20), "1.0 GiB");
  EXPECT_EQ(format_bytes(UINT64_MAX), "16 EiB");
}

TEST(CliFormat, MillisecondsAreAsFineAsTheyAreSmall) {
  EXPECT_EQ(format_milliseconds(0), "0.00 ms");
  EXPECT_EQ(format_milliseconds(0.846), "0.85 ms");
  EXPECT_EQ(format_milliseconds(4.56), "4.6 ms");
  EXPECT_EQ(format_milliseconds(9.96), "10 ms");
  EXPECT_EQ(format_milliseconds(120.4), "120 ms");
  EXPECT_EQ(format_milliseconds(999.7), "1.0 s");
  EXPECT_EQ(format_milliseconds(3210), "3.2 s");
}

TEST(CliFormat, WhatIsNoDurationOrTimeIsADash) {
  EXPECT_EQ(format_milliseconds(-1), "-");
  EXPECT_EQ(format_milliseconds(NAN), "-");
  EXPECT_EQ(format_milliseconds(INFINITY), "-");
  EXPECT_EQ(format_share(NAN), "-");
  EXPECT_EQ(format_time(-1), "-");
  EXPECT_EQ(format_time(1e300), "-");
}

TEST(CliFormat, SharesArePercent) {
  EXPECT_EQ(format_share(0), "0.0 %");
  EXPECT_EQ(format_share(0.973), "97.3 %");
  EXPECT_EQ(format_share(1.5), "100.0 %");
}

TEST(CliFormat, TimesAreRoundedToMilliseconds) {
  ::setenv("TZ", "UTC", 1);
  ::tzset();
  EXPECT_EQ(format_time(1772368496.7894), "2026-03-01 12:34:56.789");
  EXPECT_EQ(format_time(1772368496.9996), "2026-03-01 12:34:57.000");
}

TEST(CliFormat, NothingReachesATerminalAsAnEscape) {
  EXPECT_EQ(printable("\x1b[31mred\x07\n"), "?[31mred??");
  EXPECT_EQ(printable("gr\xc3\xb6\xc3\x9f"
                      "e \xe2\x80\xa6"),
            "gr\xc3\xb6\xc3\x9f"
            "e \xe2\x80\xa6");
  EXPECT_EQ(printable("\xff\xc3"), "??") << "broken UTF-8";
  EXPECT_EQ(printable("\xc2\x9b"
                      "31m"),
            "??31m")
      << "CSI as a C1 control character";
  EXPECT_EQ(printable(std::string("a\0b", 3)), "a?b");
}

TEST(CliFormat, LongTextsAreCutAtACharacter) {
  EXPECT_EQ(truncate("abc", 3), "abc");
  EXPECT_EQ(truncate("abcd", 3), "ab…");
  EXPECT_EQ(truncate("äöüß", 3), "äö…");
  EXPECT_EQ(truncate("abcd", 1), "…");
  EXPECT_EQ(truncate("abcd", 0), "");
}

TEST(CliFormat, ColumnsAreAlignedByCharactersNotBytes) {
  Table table({"A", "B"});
  table.add({"größe", "1"});
  table.add({"x", ""});
  table.add({"short"});
  EXPECT_THAT(table.lines(), ElementsAre("A      B", "größe  1", "x", "short"));
}

TEST(CliFormat, StatusIsATableOfVms) {
  const auto lines = status_lines(a_status());
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_EQ(lines[0], "alpha: tandem 0.1.0, QEMU 7.2.22 (tcg with shim)");
  EXPECT_THAT(lines[2], testing::StartsWith(
                            "VM   ROLE     STATE      POLICY    MODE      PEER  GENERATION  "));
  for (const char* shown : {"web", "primary", "protected", "periodic", "beta", "120",
                            "4.6 ms / 12 ms", "1.8 %", "0.0123"}) {
    EXPECT_THAT(lines[3], HasSubstr(shown));
  }
}

TEST(CliFormat, WhatAVmsControllerDoesIsShown) {
  auto vm = a_colo_vm();
  vm["policy"] = "hybrid";
  vm["controller"]["state"] = "measuring";
  vm["controller"]["reason"] = "stay-over";
  vm["controller"]["mode_changes"] = 5;
  vm["controller"]["figures"]["downtime_ratio_bound"] = 0.1;
  auto status = a_status();
  status["vms"] = {vm};
  EXPECT_THAT(status_lines(status)[2], HasSubstr("RATIO / bound"));
  EXPECT_THAT(status_lines(status)[3], testing::ContainsRegex(" hybrid +colo +beta "));
  EXPECT_THAT(status_lines(status)[3], HasSubstr(" 0.0123 / 0.1 "));
  std::string text;
  for (const auto& line : vm_lines(vm)) text += line + "\n";
  EXPECT_THAT(text, HasSubstr(" measuring, stay-over; downtime ratio 0.0123, its bound 0.1; 3.9 "
                              "checkpoints per second; changes of mode: 5\n"));
  // Only the primary's host has one.
  vm["controller"] = nullptr;
  text.clear();
  for (const auto& line : vm_lines(vm)) text += line + "\n";
  EXPECT_THAT(text, testing::Not(HasSubstr("controller")));
}

TEST(CliFormat, NumbersHaveNoMoreDigitsThanTheyNeed) {
  EXPECT_EQ(format_number(250, 12), "250");
  EXPECT_EQ(format_number(0.1, 12), "0.1");
  EXPECT_EQ(format_number(1.0 / 3, 3), "0.333");
  EXPECT_EQ(format_number(NAN, 3), "-");
}

TEST(CliFormat, AVmWithoutAPeerShowsNoNumbersOfAPair) {
  auto status = a_status();
  auto& vm = status["vms"][0];
  vm["role"] = "none";
  vm["state"] = "stopped";
  vm["peer"] = nullptr;
  vm["controller"] = nullptr;
  vm["pause_ms"]["count"] = 0;
  vm["last_error"] = "beta is\nlost";
  EXPECT_THAT(status_lines(status)[3],
              testing::ContainsRegex("^web +none +stopped +- +- +- +3 +- +- +- +- +- +beta"));
  EXPECT_THAT(status_lines(status)[3], HasSubstr("beta is?lost"));
}

TEST(CliFormat, AHostWithoutVmsSaysSo) {
  auto status = a_status();
  status["vms"] = json::array();
  status["qemu"] = nullptr;
  EXPECT_THAT(status_lines(status),
              ElementsAre("alpha: tandem 0.1.0, QEMU not examined or not usable",
                          "no VM is defined or running on this host"));
}

TEST(CliFormat, OneVmIsShownInDetail) {
  auto vm = a_vm();
  vm["failover"] = {{"reason", "beta is lost"}, {"detection_ms", 400.0}, {"decision_ms", 1.5},
                    {"load_ms", 30.0},          {"running_ms", 20.0},    {"total_ms", 451.5},
                    {"checkpoint", 119}};
  std::string text;
  for (const auto& line : vm_lines(vm)) text += line + "\n";
  for (const char* shown :
       {"pid 4711", "last 121, committed 120, loaded 119, in flight 1",
        "1.0 MiB of pages, 2.0 MiB on the lanes", "7 frames (700 B)", "released 80, dropped 3",
        "452 ms", "detection 400 ms", "beta is lost"}) {
    EXPECT_THAT(text, HasSubstr(shown));
  }
}

TEST(CliFormat, OfColoModeItShowsWhatWasComparedAndWhatDiffered) {
  ::setenv("TZ", "UTC", 1);
  ::tzset();
  std::string text;
  for (const auto& line : vm_lines(a_colo_vm())) text += line + "\n";
  for (const char* shown :
       {"released 5000 frames, split 12, left to commits 34, dropped 5; 1.5 MiB equal",
        "6 frames (4.0 KiB of both VMs) in 78 flows",
        "11: payload 2, timeout 9; checkpoints asked for: 7",
        "mirrored 901 frames, fed 902, stale 903, dropped 904", "translated connections  3\n"}) {
    EXPECT_THAT(text, HasSubstr(shown));
  }
  EXPECT_THAT(text, testing::ContainsRegex("policy +colo\nmode +colo\n"));
  // The flow that differed most often is the first, and no more than five are shown.
  const auto most = text.find(
      "4 x tcp 10.0.0.2:80 > 10.0.0.1:2222, last 2026-03-01 12:34:55.500: "
      "timeout, only one has sent");
  const auto next = text.find("1 x udp 10.0.0.2:53 > 10.0.0.1:1111");
  EXPECT_LT(most, next);
  EXPECT_NE(next, std::string::npos);
  EXPECT_THAT(text, HasSubstr("1 x -, last"));
  EXPECT_THAT(text, HasSubstr("tcp 5"));
  EXPECT_THAT(text, testing::Not(HasSubstr("tcp 6")));
  EXPECT_THAT(vm_summary(a_colo_vm()), HasSubstr(" mode colo "));
}

TEST(CliFormat, OfPeriodicModeItShowsNothingThatWasCompared) {
  std::string text;
  for (const auto& line : vm_lines(a_vm())) text += line + "\n";
  EXPECT_THAT(text, testing::ContainsRegex("policy +periodic\nmode +periodic\n"));
  for (const char* hidden : {"compared", "mismatches", "input", "translated"}) {
    EXPECT_THAT(text, testing::Not(HasSubstr(hidden)));
  }
  // A VM that goes on alone may still be translating.
  auto solo = a_vm();
  solo["role"] = "solo";
  solo["translations"] = 1;
  text.clear();
  for (const auto& line : vm_lines(solo)) text += line + "\n";
  EXPECT_THAT(text, HasSubstr("translated connections  1\n"));
  // Before its first checkpoint a pair has no mode.
  auto early = a_vm();
  early["mode"] = nullptr;
  EXPECT_THAT(vm_summary(early), HasSubstr(" mode - "));
}

TEST(CliFormat, WithoutADifferenceThereAreNoMismatches) {
  auto vm = a_vm();
  vm["mode"] = "colo";
  std::string text;
  for (const auto& line : vm_lines(vm)) text += line + "\n";
  EXPECT_THAT(text, testing::ContainsRegex("mismatches +none\n"));
}

TEST(CliFormat, AnEventIsOneLine) {
  ::setenv("TZ", "UTC", 1);
  ::tzset();
  const json event{{"seq", 4},          {"time", 1772368496.5},  {"vm", ""},
                   {"type", "refused"}, {"message", "no\nQEMU"}, {"data", json::object()}};
  EXPECT_EQ(event_line(event), "2026-03-01 12:34:56.500  -  refused  no?QEMU");
}

TEST(CliFormat, WhateverAnAnswerHoldsItIsShown) {
  // Every member of a real answer is replaced by values of every type, one at a time.
  const std::vector<json> strange{
      nullptr, true, -1, 1e308, "\xff\x1b", json::array({1, "a"}), json::object({{"x", 1}})};
  auto right = a_status();
  right["vms"] = {a_colo_vm()};
  const auto whole = right.flatten();
  std::size_t shown = 0;
  for (const auto& [path, value] : whole.items()) {
    for (const auto& other : strange) {
      auto status = right;
      status[json::json_pointer(path)] = other;
      for (const auto& line : status_lines(status)) EXPECT_EQ(line, printable(line));
      const auto& vms = status["vms"];
      if (vms.is_array() && !vms.empty()) {
        for (const auto& line : vm_lines(vms[0])) EXPECT_EQ(line, printable(line));
        EXPECT_FALSE(vm_summary(vms[0]).empty());
      }
      ++shown;
    }
  }
  EXPECT_GT(shown, 200u);
  for (const auto& other : strange) {
    EXPECT_FALSE(status_lines(other).empty());
    EXPECT_FALSE(vm_lines(other).empty());
    EXPECT_FALSE(vm_list_lines(other).empty());
    EXPECT_FALSE(event_line(other).empty());
    EXPECT_FALSE(dump(other).empty());
  }
}

TEST(CliFormat, ErrorsLookLikeTheApis) {
  EXPECT_EQ(dump(error_json({Errc::not_found, "no VM"})),
            R"({"error":{"code":"not-found","message":"no VM"}})");
}

}  // namespace
}  // namespace tandem::cli
