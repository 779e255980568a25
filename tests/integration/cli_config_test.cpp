// What a wrong configuration is told: file, line and key, by `tandemd --check` and by the daemon
// itself, which then changes nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/integration/cli_runner.hpp"

namespace tandem::cli {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

struct Wrong {
  const char* name;
  const char* text;     ///< appended to a right configuration of ten lines
  int line;             ///< where the error is
  const char* message;  ///< after "FILE:LINE: "
};

/// Ten lines, right by themselves.
std::string right(const Folder& folder) {
  return "[host]\nname = \"alpha\"\nstate_dir = \"" + (folder / "state").string() +
         "\"\nrun_dir = \"" + (folder / "run").string() + "\"\n[arbiter]\ndirectory = \"" +
         (folder / "arbiter").string() + "\"\n[[vm]]\nname = \"web\"\nkernel = \"/k\"\n\n";
}

class WrongConfig : public testing::TestWithParam<Wrong> {};

void expect_refused(const std::string& text, const std::string& place, const std::string& message) {
  const Folder folder;
  const auto file = folder / "tandemd.toml";
  std::ofstream(file) << text;
  const auto before = fs::last_write_time(file);
  for (const bool check : {true, false}) {
    std::vector<std::string> argv{TANDEMD_PROGRAM, "--config", file};
    if (check) argv.emplace_back("--check");
    const auto ran = run(argv);
    EXPECT_EQ(ran.status, 2);
    EXPECT_EQ(ran.out, "");
    EXPECT_THAT(ran.err, HasSubstr("tandemd: " + file.string() + place + message));
    EXPECT_EQ(std::count(ran.err.begin(), ran.err.end(), '\n'), 1) << ran.err;
  }
  EXPECT_EQ(fs::last_write_time(file), before);
}

TEST_P(WrongConfig, IsRefusedByFileLineAndKey) {
  const auto& wrong = GetParam();
  const Folder folder;
  expect_refused(right(folder) + wrong.text, ":" + std::to_string(wrong.line) + ": ",
                 wrong.message);
  for (const char* made : {"state", "run", "arbiter"})
    EXPECT_FALSE(fs::exists(folder / made)) << made;
}

INSTANTIATE_TEST_SUITE_P(
    Cli, WrongConfig,
    testing::Values(
        Wrong{"UnknownKey", "[watchdog]\nhang_timeout = 300\n", 12,
              "watchdog.hang_timeout is not a known key"},
        Wrong{"UnknownTable", "[wachdog]\n", 11, "wachdog is not a known key"},
        Wrong{"UnknownKeyOfAVm", "memory = 256\n", 11, "vm.memory is not a known key"},
        Wrong{"NumberForText", "[qemu]\nbinary = 7\n", 12, "qemu.binary is not a path"},
        Wrong{"TextForNumber", "memory_mib = \"256\"\n", 11, "vm.memory_mib is not a whole number"},
        Wrong{"FractionForNumber", "vcpus = 1.5\n", 11, "vm.vcpus is not a whole number"},
        Wrong{"TextForFlag", "autostart = \"yes\"\n", 11, "vm.autostart is not true or false"},
        Wrong{"TableForList", "[peer]\nname = \"beta\"\n", 11,
              "peer is not an array of tables ([[peer]])"},
        Wrong{"NumberInAListOfTexts", "extra_args = [\"-x\", 1]\n", 11,
              "vm.extra_args has an element that is not a string"},
        Wrong{"OutOfRangeAbove", "[replication]\nheartbeat_ms = 10001\n", 12,
              "replication.heartbeat_ms is 10001; expected 10 to 10000"},
        Wrong{"OutOfRangeBelow", "vcpus = 0\n", 11, "vm.vcpus is 0; expected 1 to 1024"},
        Wrong{"Negative", "vcpus = -1\n", 11, "vm.vcpus is -1; expected 1 to 1024"},
        Wrong{"TimeoutBelowTwoHeartbeats", "[replication]\nheartbeat_timeout_ms = 199\n", 11,
              "replication.heartbeat_timeout_ms is less than two heartbeats"},
        Wrong{"DuplicateVm", "[[vm]]\nname = \"web\"\nkernel = \"/k\"\n", 11,
              "vm.name \"web\" is defined twice"},
        Wrong{"BadAddressWithoutPort", "[[peer]]\nname = \"beta\"\naddress = \"192.0.2.2\"\n", 13,
              "peer.address is wrong: \"192.0.2.2\" is not an address: expected HOST:PORT"},
        Wrong{"BadAddressPort", "[replication]\nlisten = \"0.0.0.0:70700\"\n", 12,
              "replication.listen is wrong: \"0.0.0.0:70700\" is not an address"},
        Wrong{"BadName", "[[vm]]\nname = \"a b\"\n", 11, "vm.name is missing or not a name"},
        Wrong{"BadMac", "[[vm.nic]]\nmac = \"x\"\ntap = \"t\"\n", 7,
              "vm.name \"web\": nics[0].mac: expected a unicast address"},
        Wrong{"MissingAddress", "[[peer]]\nname = \"beta\"\n", 11, "peer.address is missing"},
        Wrong{"MissingName", "[[vm]]\nkernel = \"/k\"\n", 11, "vm.name is missing"},
        Wrong{"UnknownAccelerator", "[qemu]\naccel = \"hvf\"\n", 11,
              "qemu.accel is \"hvf\"; expected \"auto\", \"kvm\" or \"tcg\""},
        Wrong{"SyntaxError", "[qemu\n", 11, ""},
        Wrong{"KeyTwice", "vcpus = 1\nvcpus = 2\n", 12, ""}),
    [](const auto& wrong) { return std::string(wrong.param.name); });

TEST(Cli, AMissingRequiredTableIsNamed) {
  expect_refused("[host]\nname = \"alpha\"\n", ":1: ", "arbiter.directory is missing");
  expect_refused("", ":1: ", "host.name is missing");
}

TEST(Cli, AConfigurationThatCannotBeReadIsNamed) {
  const auto ran = run({TANDEMD_PROGRAM, "--check", "--config", "/nonexistent/tandemd.toml"});
  EXPECT_EQ(ran.status, 2);
  EXPECT_THAT(ran.err, HasSubstr("/nonexistent/tandemd.toml does not exist"));
  const auto folder = run({TANDEMD_PROGRAM, "--check", "--config", "/tmp"});
  EXPECT_EQ(folder.status, 2);
  EXPECT_THAT(folder.err, HasSubstr("/tmp"));
}

TEST(Cli, ARightConfigurationIsToldSoAndNothingIsMade) {
  const Folder folder;
  std::ofstream(folder / "tandemd.toml") << right(folder);
  const auto ran = run({TANDEMD_PROGRAM, "--check", "--config", folder / "tandemd.toml"});
  EXPECT_EQ(ran.status, 0) << ran.err;
  EXPECT_EQ(ran.out, (folder / "tandemd.toml").string() + ": right\n");
  for (const char* made : {"state", "run", "arbiter"})
    EXPECT_FALSE(fs::exists(folder / made)) << made;
}

}  // namespace
}  // namespace tandem::cli
