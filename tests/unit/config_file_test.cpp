// The daemon's configuration: every key, and every way to get one wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/daemon/config.hpp"
#include "tests/unit/temporary_folder.hpp"

namespace tandem::daemon {
namespace {

using namespace std::chrono_literals;
using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

constexpr const char* kMinimal = R"([host]
name = "alpha"
[arbiter]
directory = "/srv/arbiter"
)";

TEST(Config, TheSmallestFileHasTheDocumentedDefaults) {
  const auto config = parse_config(kMinimal, "t.toml");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->host, "alpha");
  EXPECT_EQ(config->state_dir, "/var/lib/tandem");
  EXPECT_EQ(config->run_dir, "/run/tandem");
  EXPECT_EQ(config->api_socket, "/run/tandem/api.sock");
  EXPECT_EQ(config->listen.host, "0.0.0.0");
  EXPECT_EQ(config->listen.port, 7070);
  ASSERT_TRUE(config->web_listen);
  EXPECT_EQ(config->web_listen->host, "127.0.0.1");
  EXPECT_EQ(config->web_listen->port, 7071);
  EXPECT_TRUE(config->web_names.empty());
  EXPECT_EQ(config->heartbeat, 100ms);
  EXPECT_EQ(config->controller, controller::Parameters());
  EXPECT_EQ(config->colo_compare_timeout, 250ms);
  EXPECT_EQ(config->policy, controller::Policy::periodic);
  EXPECT_EQ(config->hang_timeout, 300ms);
  EXPECT_EQ(config->qemu.accel, "auto");
  EXPECT_TRUE(config->vms.empty());
}

TEST(Config, EveryKeyIsRead) {
  const auto config = parse_config(R"(
[host]
name = "alpha"
state_dir = "/s"
run_dir = "/r"
[api]
socket = "/a.sock"
[web]
listen = "[::1]:7272"
names = ["alpha.example.org"]
[replication]
listen = "10.77.0.1:7171"
heartbeat_ms = 50
heartbeat_timeout_ms = 333
checkpoint_period_ms = 125
[colo]
compare_timeout_ms = 90
checkpoint_max_ms = 5000
[arbiter]
kind = "local"
directory = "/arb"
[qemu]
binary = "/q"
accel = "tcg"
arguments = ["-L", "/fw"]
environment = ["A=b"]
tcg_shim = "/shim.so"
[watchdog]
hang_timeout_ms = 777
[[peer]]
name = "beta"
address = "10.77.0.2:7070"
[[peer]]
name = "gamma"
address = "[fd00::3]:7070"
[[vm]]
name = "demo"
memory_mib = 512
vcpus = 2
machine = "q35"
kernel = "/k"
initrd = "/i"
cmdline = "quiet"
autostart = true
extra_args = ["-nodefaults"]
[[vm.nic]]
mac = "52:54:00:12:34:56"
tap = "tnd0"
bridge = "br0"
[[vm.nic]]
id = "wan"
mac = "52:54:00:12:34:57"
tap = "tnd1"
[[vm]]
name = "other"
)",
                                   "t.toml");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->state_dir, "/s");
  EXPECT_EQ(config->run_dir, "/r");
  EXPECT_EQ(config->api_socket, "/a.sock");
  EXPECT_EQ(config->listen.host, "10.77.0.1");
  EXPECT_EQ(config->listen.port, 7171);
  EXPECT_EQ(config->web_listen->host, "::1");
  EXPECT_EQ(config->web_listen->port, 7272);
  EXPECT_EQ(config->web_names, std::vector<std::string>{"alpha.example.org"});
  EXPECT_EQ(config->heartbeat, 50ms);
  EXPECT_EQ(config->heartbeat_timeout, 333ms);
  EXPECT_EQ(config->controller.period_ms, 125);
  EXPECT_EQ(config->colo_compare_timeout, 90ms);
  EXPECT_EQ(config->controller.colo_checkpoint_max_ms, 5000);
  EXPECT_EQ(config->arbiter_kind, "local");
  EXPECT_EQ(config->arbiter_directory, "/arb");
  EXPECT_EQ(config->qemu.binary, "/q");
  EXPECT_EQ(config->qemu.accel, "tcg");
  EXPECT_EQ(config->qemu.arguments, (std::vector<std::string>{"-L", "/fw"}));
  EXPECT_EQ(config->qemu.environment, std::vector<std::string>{"A=b"});
  EXPECT_EQ(config->qemu.tcg_shim, "/shim.so");
  EXPECT_EQ(config->hang_timeout, 777ms);
  ASSERT_EQ(config->peers.size(), 2u);
  EXPECT_EQ(config->peers[1].name, "gamma");
  EXPECT_EQ(config->peers[1].address.host, "fd00::3");
  ASSERT_EQ(config->vms.size(), 2u);
  hypervisor::VmDefinition demo;
  demo.name = "demo";
  demo.memory_mib = 512;
  demo.vcpus = 2;
  demo.machine = "q35";
  demo.kernel = "/k";
  demo.initrd = "/i";
  demo.cmdline = "quiet";
  demo.autostart = true;
  demo.extra_args = {"-nodefaults"};
  demo.nics = {{"n0", "52:54:00:12:34:56", "tnd0", "br0"},
               {"wan", "52:54:00:12:34:57", "tnd1", ""}};
  EXPECT_EQ(config->vms[0], demo);
}

/// A file with one mistake: what the error says of it, and the line it names.
struct Mistake {
  const char* text;  ///< put behind kMinimal, which has four lines
  int line;
  const char* key;
  const char* expected;
};
void PrintTo(const Mistake& mistake, std::ostream* out) {
  *out << mistake.key;
}

class ConfigMistake : public testing::TestWithParam<Mistake> {};

TEST_P(ConfigMistake, IsNamedWithFileLineKeyAndWhatWasExpected) {
  const auto& mistake = GetParam();
  const auto config = parse_config(std::string(kMinimal) + mistake.text, "etc/t.toml");
  ASSERT_FALSE(config) << mistake.text;
  EXPECT_EQ(config.error().code, Errc::invalid_input);
  EXPECT_THAT(config.error().message,
              AllOf(StartsWith("etc/t.toml:" + std::to_string(mistake.line) + ": "),
                    HasSubstr(mistake.key), HasSubstr(mistake.expected)));
}

INSTANTIATE_TEST_SUITE_P(
    Each, ConfigMistake,
    testing::Values(
        Mistake{"[nonsense]\n", 5, "nonsense", "not a known key"},
        Mistake{"[api]\nsockets = \"/a\"\n", 6, "api.sockets", "not a known key"},
        Mistake{"[replication]\nheartbeat = 5\n", 6, "replication.heartbeat", "not a known key"},
        Mistake{"[api]\nsocket = 5\n", 6, "api.socket", "a path"},
        Mistake{"[web]\nlisten = \"7071\"\n", 5, "web.listen", "an address of this host"},
        Mistake{"[web]\nlisten = \"alpha:7071\"\n", 5, "web.listen", "in numbers"},
        Mistake{"[web]\nlisten = \"127.0.0.1:0\"\n", 5, "web.listen", "a port"},
        Mistake{"[web]\nlisten = 7071\n", 6, "web.listen", "a string"},
        Mistake{"[web]\nnames = \"alpha\"\n", 6, "web.names", "an array of strings"},
        Mistake{"[web]\nport = 7071\n", 6, "web.port", "not a known key"},
        Mistake{"[replication]\nlisten = \"7070\"\n", 6, "replication.listen", "HOST:PORT"},
        Mistake{"[replication]\nlisten = 7070\n", 6, "replication.listen", "HOST:PORT"},
        Mistake{"[replication]\nheartbeat_ms = 9\n", 6, "replication.heartbeat_ms", "10 to 10000"},
        Mistake{"[replication]\nheartbeat_ms = 10001\n", 6, "replication.heartbeat_ms",
                "10 to 10000"},
        Mistake{"[replication]\nheartbeat_ms = 0.5\n", 6, "replication.heartbeat_ms",
                "a whole number"},
        Mistake{"[replication]\nheartbeat_timeout_ms = 49\n", 6, "replication.heartbeat_timeout_ms",
                "50 to 60000"},
        Mistake{"[replication]\nheartbeat_ms = 100\nheartbeat_timeout_ms = 199\n", 5,
                "replication.heartbeat_timeout_ms", "two heartbeats"},
        Mistake{"[replication]\ncheckpoint_period_ms = -1\n", 6, "replication.checkpoint_period_ms",
                "10 to 60000"},
        Mistake{"[colo]\ncompare_timeout_ms = 9\n", 6, "colo.compare_timeout_ms", "10 to 10000"},
        Mistake{"[colo]\ncompare_timeout_ms = 10001\n", 6, "colo.compare_timeout_ms",
                "10 to 10000"},
        Mistake{"[colo]\ncheckpoint_max_ms = 999\n", 6, "colo.checkpoint_max_ms", "1000 to 60000"},
        Mistake{"[colo]\ncheckpoint_max_ms = 60001\n", 6, "colo.checkpoint_max_ms",
                "1000 to 60000"},
        Mistake{"[colo]\ncompare_timeout = 9\n", 6, "colo.compare_timeout", "not a known key"},
        Mistake{"[qemu]\naccel = \"xen\"\n", 5, "qemu.accel", "\"kvm\""},
        Mistake{"[qemu]\narguments = \"-L\"\n", 6, "qemu.arguments", "an array of strings"},
        Mistake{"[qemu]\nenvironment = [\"A=b\", 5]\n", 6, "qemu.environment", "not a string"},
        Mistake{"[qemu]\nbinary = true\n", 6, "qemu.binary", "a path"},
        Mistake{"[watchdog]\nhang_timeout_ms = 99\n", 6, "watchdog.hang_timeout_ms",
                "100 to 60000"},
        Mistake{"[[peer]]\naddress = \"a:1\"\n", 5, "peer.name", "missing or not a name"},
        Mistake{"[[peer]]\nname = \"beta\"\n", 5, "peer.address", "missing"},
        Mistake{"[[peer]]\nname = \"be ta\"\naddress = \"a:1\"\n", 5, "peer.name", "not a name"},
        Mistake{"[peer]\nname = \"beta\"\n", 5, "peer", "[[peer]]"},
        Mistake{"peer = 5\n", 5, "arbiter.peer", "not a known key"},
        Mistake{"[[vm]]\nmemory_mib = 64\n", 5, "vm.name", "missing or not a name"},
        Mistake{"[[vm]]\nname = \"../x\"\n", 5, "vm.name", "not a name"},
        Mistake{"[[vm]]\nname = \"d\"\nmemory_mib = 0\n", 7, "vm.memory_mib", "1 to"},
        Mistake{"[[vm]]\nname = \"d\"\nvcpus = 1025\n", 7, "vm.vcpus", "1 to 1024"},
        Mistake{"[[vm]]\nname = \"d\"\nautostart = 1\n", 7, "vm.autostart", "true or false"},
        Mistake{"[[vm]]\nname = \"d\"\n[[vm]]\nname = \"d\"\n", 7, "vm.name", "defined twice"},
        Mistake{"[[vm]]\nname = \"d\"\n[[vm.nic]]\nmac = \"5\"\ntap = \"t\"\n", 5, "vm.name",
                "mac"},
        Mistake{"[[vm]]\nname = \"d\"\n[[vm.nic]]\nspeed = 5\n", 8, "vm.nic.speed",
                "not a known key"},
        Mistake{"[[vm]]\nname = \"d\"\nnic = 5\n", 7, "vm.nic", "[[vm.nic]]"}),
    [](const auto& mistake) { return "n" + std::to_string(mistake.index); });

TEST(Config, MissingRequiredKeysAreNamedAlsoWhereTheirTableIsMissing) {
  const auto no_host = parse_config("[arbiter]\ndirectory = \"/a\"\n", "t.toml");
  ASSERT_FALSE(no_host);
  EXPECT_THAT(no_host.error().message,
              AllOf(StartsWith("t.toml:1: "), HasSubstr("host.name"), HasSubstr("missing")));
  const auto no_arbiter = parse_config("[host]\nname = \"a\"\n", "t.toml");
  ASSERT_FALSE(no_arbiter);
  EXPECT_THAT(no_arbiter.error().message, HasSubstr("arbiter.directory"));
  EXPECT_FALSE(parse_config("", "t.toml"));
}

TEST(Config, TheWebPortCanBeSwitchedOff) {
  const auto config = parse_config(std::string(kMinimal) + "[web]\nlisten = \"\"\n", "t.toml");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_FALSE(config->web_listen);
}

TEST(Config, AnUnknownArbiterIsRefused) {
  const auto config =
      parse_config("[host]\nname = \"a\"\n[arbiter]\nkind = \"oracle\"\n", "t.toml");
  ASSERT_FALSE(config);
  EXPECT_THAT(config.error().message, AllOf(HasSubstr("t.toml:3"), HasSubstr("arbiter.kind"),
                                            HasSubstr("oracle"), HasSubstr("\"local\"")));
}

TEST(Config, WhatIsNotTomlIsNamedWithItsLine) {
  const auto config = parse_config("[host]\nname = \n", "t.toml");
  ASSERT_FALSE(config);
  EXPECT_THAT(config.error().message, StartsWith("t.toml:2: "));
}

TEST(Config, EveryTruncationOfAFileIsReadOrRefusedAndNeverCrashes) {
  const std::string text = std::string(kMinimal) +
                           "[replication]\nlisten = \"[::1]:7070\"\n[[peer]]\nname = \"b\"\n"
                           "address = \"b:1\"\n[[vm]]\nname = \"d\"\n[[vm.nic]]\ntap = \"t\"\n";
  for (std::size_t length = 0; length < text.size(); ++length) {
    const auto config = parse_config(text.substr(0, length), "t.toml");
    if (!config) {
      EXPECT_THAT(config.error().message, StartsWith("t.toml:")) << length;
    }
  }
}

TEST(Config, AFileThatIsMissingIsNamed) {
  const auto config = load_config("/nonexistent/tandemd.toml");
  ASSERT_FALSE(config);
  EXPECT_EQ(config.error().code, Errc::not_found);
  EXPECT_THAT(config.error().message, HasSubstr("/nonexistent/tandemd.toml"));
}

TEST(Config, IsLoadedFromAFile) {
  const test::TemporaryFolder folder;
  test::write_text(folder.path() / "t.toml", kMinimal);
  EXPECT_TRUE(load_config(folder.path() / "t.toml"));
}

TEST(Config, NamesAreLettersDigitsAndAFewSigns) {
  for (const std::string_view name : {"a", "A1", "web-1.example_x", "0"}) {
    EXPECT_TRUE(is_valid_name(name)) << name;
  }
  EXPECT_TRUE(is_valid_name(std::string(63, 'a')));
  EXPECT_FALSE(is_valid_name(std::string(64, 'a')));
  for (const std::string_view name : {"", "-a", ".a", "_a", "a b", "a/b", "\xc3\xa4", "a\n"}) {
    EXPECT_FALSE(is_valid_name(name)) << name;
  }
  EXPECT_FALSE(is_valid_name(std::string_view("a\0b", 3)));
}

}  // namespace
}  // namespace tandem::daemon
