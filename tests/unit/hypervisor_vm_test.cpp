// VM definitions: what is accepted, what is refused and with which words, and JSON both ways.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/hypervisor/vm.hpp"

namespace tandem::hypervisor {
namespace {

using nlohmann::json;
using testing::HasSubstr;

VmDefinition full_vm() {
  VmDefinition vm;
  vm.name = "web-1.prod";
  vm.memory_mib = 512;
  vm.vcpus = 2;
  vm.machine = "q35,hpet=off";
  vm.kernel = "/srv/vmlinux";
  vm.initrd = "/srv/initrd";
  vm.cmdline = "console=ttyS0 quiet";
  vm.nics = {{"n0", "52:54:00:00:00:01", "web-0", "br0"}, {"n1", "52:54:00:00:00:02", "web-1", ""}};
  vm.extra_args = {"-cpu", "max"};
  vm.autostart = true;
  return vm;
}

TEST(VmDefinition, IsTheSameAfterATripThroughJson) {
  const auto text = to_json(full_vm()).dump();
  const auto vm = vm_from_json(json::parse(text));
  ASSERT_TRUE(vm) << vm.error().message;
  EXPECT_EQ(*vm, full_vm());
}

TEST(VmDefinition, NeedsNoMoreThanAName) {
  const auto vm = vm_from_json({{"name", "a"}});
  ASSERT_TRUE(vm) << vm.error().message;
  VmDefinition expected;
  expected.name = "a";
  EXPECT_EQ(*vm, expected);
}

/// A change to a definition that is accepted as it is, and the field that the refusal must name.
struct Refusal {
  const char* what;
  json change;
  const char* field;
};

class RefusedJson : public testing::TestWithParam<Refusal> {};

TEST_P(RefusedJson, NamesTheField) {
  auto object = to_json(full_vm());
  ASSERT_TRUE(vm_from_json(object));
  object.merge_patch(GetParam().change);
  const auto vm = vm_from_json(object);
  ASSERT_FALSE(vm);
  EXPECT_EQ(vm.error().code, Errc::invalid_input);
  EXPECT_THAT(vm.error().message, HasSubstr(GetParam().field));
}

json nic(const char* key, json value) {
  json one = {{"id", "n0"}, {"mac", "52:54:00:00:00:01"}, {"tap", "t0"}, {"bridge", ""}};
  one[key] = std::move(value);
  return {{"nics", json::array({one})}};
}

json two_nics(const char* key, const json& value) {
  json a = {{"id", "n0"}, {"mac", "52:54:00:00:00:0a"}, {"tap", "t0"}};
  json b = {{"id", "n1"}, {"mac", "52:54:00:00:00:0b"}, {"tap", "t1"}};
  b[key] = value;
  return {{"nics", json::array({a, b})}};
}

INSTANTIATE_TEST_SUITE_P(
    , RefusedJson,
    testing::Values(
        Refusal{"UnknownKey", {{"memory", 5}}, "memory: unknown"},
        Refusal{"UnknownNicKey", nic("model", "e1000"), "nics[0].model: unknown"},
        Refusal{"NameMissing", {{"name", nullptr}}, "name"},
        Refusal{"NameEmpty", {{"name", ""}}, "name"},
        Refusal{"NameWithSlash", {{"name", "a/b"}}, "name"},
        Refusal{"NameIsParentFolder", {{"name", ".."}}, "name"},
        Refusal{"NameTooLong", {{"name", std::string(64, 'a')}}, "name"},
        Refusal{"NameIsNumber", {{"name", 7}}, "name: expected a string"},
        Refusal{"MemoryIsText", {{"memory_mib", "256"}}, "memory_mib"},
        Refusal{"MemoryIsNegative", {{"memory_mib", -1}}, "memory_mib"},
        Refusal{"MemoryIsFraction", {{"memory_mib", 256.5}}, "memory_mib"},
        Refusal{"MemoryOverflows", {{"memory_mib", 4294967552u + 0ull}}, "memory_mib"},
        Refusal{"MemoryTooSmall", {{"memory_mib", 1}}, "memory_mib"},
        Refusal{"NoVcpu", {{"vcpus", 0}}, "vcpus"},
        Refusal{"MachineEmpty", {{"machine", ""}}, "machine"},
        Refusal{"MachineWithSpace", {{"machine", "pc -S"}}, "machine"},
        Refusal{"KernelRelative", {{"kernel", "vmlinux"}}, "kernel"},
        Refusal{"InitrdWithoutKernel", {{"kernel", ""}}, "kernel"},
        Refusal{"CmdlineWithZero", {{"cmdline", std::string("a\0b", 3)}}, "cmdline"},
        Refusal{"NicsAreObject", {{"nics", {{"id", "n0"}}}}, "nics"},
        Refusal{"NicIsText", {{"nics", {"n0"}}}, "nics[0]: expected an object"},
        Refusal{"TooManyNics", {{"nics", json::array_t(17, nic("id", "n0")["nics"][0])}}, "nics"},
        Refusal{"NicIdWithComma", nic("id", "n0,script=x"), "nics[0].id"},
        Refusal{"MacShort", nic("mac", "52:54:00:00:00"), "nics[0].mac"},
        Refusal{"MacEmpty", nic("mac", ""), "nics[0].mac"},
        Refusal{"MacIsMulticast", nic("mac", "53:54:00:00:00:01"), "nics[0].mac"},
        Refusal{"MacWithDashes", nic("mac", "52-54-00-00-00-01"), "nics[0].mac"},
        Refusal{"TapMissing", nic("tap", ""), "nics[0].tap"},
        Refusal{"TapTooLong", nic("tap", "sixteencharacter"), "nics[0].tap"},
        Refusal{"TapIsPattern", nic("tap", "tap%d"), "nics[0].tap"},
        Refusal{"BridgeTooLong", nic("bridge", "sixteencharacter"), "nics[0].bridge"},
        Refusal{"SameNicId", two_nics("id", "n0"), "nics[1].id"},
        Refusal{"SameMacInOtherCase", two_nics("mac", "52:54:00:00:00:0A"), "nics[1].mac"},
        Refusal{"SameTap", two_nics("tap", "t0"), "nics[1].tap"},
        Refusal{"ExtraArgsIsText", {{"extra_args", "-S"}}, "extra_args"},
        Refusal{"ExtraArgsOfNumbers", {{"extra_args", {1}}}, "extra_args"},
        Refusal{"ExtraArgsDaemonize", {{"extra_args", {"--daemonize"}}}, "-daemonize"},
        Refusal{"ExtraArgsIncoming", {{"extra_args", {"-incoming", "defer"}}}, "-incoming"},
        Refusal{"AutostartIsNumber", {{"autostart", 1}}, "autostart"}),
    [](const auto& refusal) { return std::string(refusal.param.what); });

TEST(VmDefinition, IsAnObject) {
  for (const auto& other : {json::array(), json("vm"), json(), json(1)}) {
    const auto vm = vm_from_json(other);
    ASSERT_FALSE(vm) << other;
    EXPECT_EQ(vm.error().code, Errc::invalid_input);
  }
}

}  // namespace
}  // namespace tandem::hypervisor
