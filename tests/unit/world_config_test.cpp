// The configuration files that the world writes say what was meant, whatever the names contain.
#include <gtest/gtest.h>

#include <toml++/toml.h>

#include "experiments/world/daemon_config.hpp"
#include "experiments/world/frame_witness.hpp"

namespace tandem::world {
namespace {

DaemonPlace place() {
  return {"alpha",          "beta",         "10.77.0.1:7070",    "10.77.0.2:7070",
          "/tmp/w/a/state", "/tmp/w/a/run", "/tmp/w/a/api.sock", "/tmp/w/arbiter"};
}

TEST(DaemonConfig, HoldsEveryChoice) {
  DaemonOptions options;
  options.qemu = "/opt/qemu";
  options.qemu_arguments = {"-L", "/opt/fw"};
  options.qemu_environment = {"A=b c"};
  options.tcg_shim = "/lib/shim.so";
  options.heartbeat_timeout = std::chrono::milliseconds(444);
  hypervisor::VmDefinition vm;
  vm.name = "demo";
  vm.kernel = "/k";
  vm.initrd = "/i";
  vm.cmdline = "console=ttyS0 quiet";
  vm.nics.push_back({"n0", "52:54:00:12:34:56", "tnd0", "br0"});
  vm.extra_args = {"-device", "virtio-rng-pci"};
  options.vms = {vm, vm};
  options.vms[1].name = "second";
  options.vms[1].autostart = true;

  const auto table = toml::parse(daemon_config(options, place()));
  EXPECT_EQ(table["host"]["name"].value_or(""), std::string("alpha"));
  EXPECT_EQ(table["host"]["state_dir"].value_or(""), std::string("/tmp/w/a/state"));
  EXPECT_EQ(table["host"]["run_dir"].value_or(""), std::string("/tmp/w/a/run"));
  EXPECT_EQ(table["api"]["socket"].value_or(""), std::string("/tmp/w/a/api.sock"));
  EXPECT_EQ(table["replication"]["listen"].value_or(""), std::string("10.77.0.1:7070"));
  EXPECT_EQ(table["replication"]["heartbeat_ms"].value_or(0), 100);
  EXPECT_EQ(table["replication"]["heartbeat_timeout_ms"].value_or(0), 444);
  EXPECT_EQ(table["replication"]["checkpoint_period_ms"].value_or(0), 250);
  EXPECT_EQ(table["arbiter"]["kind"].value_or(""), std::string("local"));
  EXPECT_EQ(table["arbiter"]["directory"].value_or(""), std::string("/tmp/w/arbiter"));
  EXPECT_EQ(table["qemu"]["binary"].value_or(""), std::string("/opt/qemu"));
  EXPECT_EQ(table["qemu"]["accel"].value_or(""), std::string("auto"));
  EXPECT_EQ(table["qemu"]["arguments"][1].value_or(""), std::string("/opt/fw"));
  EXPECT_EQ(table["qemu"]["environment"][0].value_or(""), std::string("A=b c"));
  EXPECT_EQ(table["qemu"]["tcg_shim"].value_or(""), std::string("/lib/shim.so"));
  EXPECT_EQ(table["watchdog"]["hang_timeout_ms"].value_or(0), 300);
  EXPECT_EQ(table["peer"][0]["name"].value_or(""), std::string("beta"));
  EXPECT_EQ(table["peer"][0]["address"].value_or(""), std::string("10.77.0.2:7070"));
  EXPECT_EQ(table["vm"].as_array()->size(), 2U);
  EXPECT_EQ(table["vm"][0]["memory_mib"].value_or(0), 256);
  EXPECT_EQ(table["vm"][0]["cmdline"].value_or(""), std::string("console=ttyS0 quiet"));
  EXPECT_FALSE(table["vm"][0]["autostart"].value_or(true));
  EXPECT_EQ(table["vm"][0]["extra_args"][1].value_or(""), std::string("virtio-rng-pci"));
  EXPECT_EQ(table["vm"][0]["nic"][0]["tap"].value_or(""), std::string("tnd0"));
  EXPECT_EQ(table["vm"][1]["nic"][0]["mac"].value_or(""), std::string("52:54:00:12:34:56"));
  EXPECT_EQ(table["vm"][1]["name"].value_or(""), std::string("second"));
  EXPECT_TRUE(table["vm"][1]["autostart"].value_or(false));
}

TEST(DaemonConfig, LeavesOutAShimThatIsNotThere) {
  const auto table = toml::parse(daemon_config({}, place()));
  EXPECT_FALSE(table["qemu"].as_table()->contains("tcg_shim"));
  EXPECT_FALSE(table.contains("vm"));
}

TEST(TomlString, StandsForExactlyTheText) {
  for (const std::string text :
       {"plain", "", "a\"b\\c", "tab\tnewline\n", "\x01\x7f", "ümläut", "'"}) {
    const auto table = toml::parse("x = " + toml_string(text));
    EXPECT_EQ(table["x"].value_or("?"), text);
  }
}

TEST(MacAddress, IsReadWholeOrNotAtAll) {
  EXPECT_EQ(parse_mac("52:54:00:12:34:5f"), (MacAddress{0x52, 0x54, 0, 0x12, 0x34, 0x5f}));
  for (const auto* text : {"", "52:54:00:12:34", "52:54:00:12:34:56:78", "52:54:00:12:34:5",
                           "zz:54:00:12:34:56", "52-54-00-12-34-56"})
    EXPECT_EQ(parse_mac(text), std::nullopt) << text;
}

}  // namespace
}  // namespace tandem::world
