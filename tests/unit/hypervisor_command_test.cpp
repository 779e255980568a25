// QEMU's command line and environment, versions, and process identities.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "engine/hypervisor/process.hpp"
#include "engine/hypervisor/qemu_command.hpp"
#include "engine/hypervisor/qemu_probe.hpp"

namespace tandem::hypervisor {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

VmDefinition vm_with_nics() {
  VmDefinition vm;
  vm.name = "web";
  vm.kernel = "/srv/vmlinux";
  vm.initrd = "/srv/initrd";
  vm.cmdline = "console=ttyS0 a,b";
  vm.nics = {{"n0", "52:54:00:00:00:01", "web-0", "br0"}, {"n1", "52:54:00:00:00:02", "web-1", ""}};
  vm.extra_args = {"-cpu", "max"};
  return vm;
}

CommandContext context() {
  return {Accelerator::tcg, StartMode::run, "/run/q,mp", "/run/ser", {3, 4}};
}

TEST(QemuArguments, AreExactlyThese) {
  QemuConfig config;
  config.arguments = {"-L", "/opt/firmware"};
  EXPECT_THAT(
      qemu_arguments(config, vm_with_nics(), context()),
      ElementsAre("-L", "/opt/firmware", "-nodefaults", "-no-user-config", "-display", "none",
                  "-msg", "timestamp=on", "-name", "guest=web,debug-threads=on", "-machine", "pc",
                  "-accel", "tcg,thread=multi", "-m", "256", "-smp", "1", "-kernel", "/srv/vmlinux",
                  "-initrd", "/srv/initrd", "-append", "console=ttyS0 a,b", "-chardev",
                  "socket,id=tandem-qmp,server=on,wait=off,path=/run/q,,mp", "-mon",
                  "chardev=tandem-qmp,mode=control", "-chardev",
                  "file,id=tandem-serial,path=/run/ser", "-serial", "chardev:tandem-serial",
                  "-netdev", "tap,id=n0,fd=3,vhost=off", "-device",
                  "virtio-net-pci,id=nic-n0,netdev=n0,mac=52:54:00:00:00:01,romfile=", "-netdev",
                  "tap,id=n1,fd=4,vhost=off", "-device",
                  "virtio-net-pci,id=nic-n1,netdev=n1,mac=52:54:00:00:00:02,romfile=", "-device",
                  "virtio-rng-pci,id=tandem-rng", "-cpu", "max"));
}

TEST(QemuArguments, OfASecondaryAreThoseOfThePrimaryAndIncoming) {
  auto incoming = context();
  incoming.mode = StartMode::incoming;
  auto expected = qemu_arguments({}, vm_with_nics(), context());
  expected.insert(expected.end(), {"-incoming", "defer"});
  EXPECT_EQ(qemu_arguments({}, vm_with_nics(), incoming), expected);
}

TEST(QemuArguments, NameKvmWhenItWorks) {
  auto kvm = context();
  kvm.accelerator = Accelerator::kvm;
  const auto arguments = qemu_arguments({}, vm_with_nics(), kvm);
  EXPECT_THAT(arguments, Contains("kvm"));
  EXPECT_THAT(arguments, Not(Contains(HasSubstr("tcg"))));
}

TEST(QemuArguments, HaveNoKernelForAVmThatBootsFromADisk) {
  VmDefinition vm;
  vm.name = "disk";
  auto without_nics = context();
  without_nics.tap_fds.clear();
  const auto arguments = qemu_arguments({}, vm, without_nics);
  EXPECT_THAT(arguments, Not(Contains("-kernel")));
  EXPECT_THAT(arguments, Not(Contains("-append")));
  EXPECT_THAT(arguments, Not(Contains("-netdev")));
}

TEST(QemuEnvironment, TakesConfiguredVariablesOverInheritedOnes) {
  QemuConfig config;
  config.environment = {"A=2", "B=3"};
  EXPECT_THAT(qemu_environment(config, {"A=1", "AB=1"}, {}), ElementsAre("AB=1", "A=2", "B=3"));
}

TEST(QemuEnvironment, PreloadsTheShimBeforeWhatWasPreloaded) {
  EXPECT_THAT(qemu_environment({}, {"X=1"}, "/lib/shim.so"),
              ElementsAre("X=1", "LD_PRELOAD=/lib/shim.so"));
  EXPECT_THAT(qemu_environment({}, {"LD_PRELOAD=/lib/a.so"}, "/lib/shim.so"),
              ElementsAre("LD_PRELOAD=/lib/shim.so:/lib/a.so"));
  EXPECT_THAT(qemu_environment({}, {"LD_PRELOAD=/lib/a.so"}, {}),
              ElementsAre("LD_PRELOAD=/lib/a.so"));
}

TEST(QemuVersion, IsReadFromTheVersionOutput) {
  const auto debian = parse_version(
      "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\n"
      "Copyright (c) 2003-2022 Fabrice Bellard\n");
  ASSERT_TRUE(debian) << debian.error().message;
  EXPECT_EQ(*debian, (qmp::Version{7, 2, 22, "Debian 1:7.2+dfsg-7+deb12u18+b3"}));
  const auto plain = parse_version("QEMU emulator version 11.1.0\nCopyright (c) 2003\n");
  ASSERT_TRUE(plain) << plain.error().message;
  EXPECT_EQ(*plain, (qmp::Version{11, 1, 0, ""}));
}

TEST(QemuVersion, OfSomethingElseIsRefused) {
  for (const auto* text :
       {"", "qemu-img version 7.2.0", "QEMU emulator version x", "QEMU emulator version 7",
        "QEMU emulator version 7.2.", "QEMU emulator version 99999999999.1.1"}) {
    const auto version = parse_version(text);
    ASSERT_FALSE(version) << text;
    EXPECT_EQ(version.error().code, Errc::protocol);
  }
}

TEST(QemuVersion, WithBrokenColoIsRefusedByNumberAndWithAdvice) {
  for (const auto& version :
       {qmp::Version{10, 0, 0, ""}, qmp::Version{10, 0, 7, ""}, qmp::Version{10, 1, 2, ""}}) {
    const auto checked = check_version(version);
    ASSERT_FALSE(checked) << qmp::to_string(version);
    EXPECT_EQ(checked.error().code, Errc::refused);
    EXPECT_THAT(checked.error().message, HasSubstr(qmp::to_string(version)));
    EXPECT_THAT(checked.error().message, HasSubstr("10.2 or newer"));
  }
}

TEST(QemuVersion, ThatNobodyHasTriedIsRefused) {
  const auto checked = check_version({5, 2, 0, ""});
  ASSERT_FALSE(checked);
  EXPECT_THAT(checked.error().message, HasSubstr("5.2.0"));
}

TEST(QemuVersion, WithWorkingColoIsAccepted) {
  for (const auto& version :
       {qmp::Version{6, 0, 0, ""}, qmp::Version{7, 2, 22, ""}, qmp::Version{9, 2, 0, ""},
        qmp::Version{10, 2, 0, ""}, qmp::Version{11, 1, 3, ""}}) {
    EXPECT_TRUE(check_version(version)) << qmp::to_string(version);
  }
}

TEST(QemuVersion, DecidesWhichCapabilitiesColoNeeds) {
  EXPECT_THAT(colo_capabilities({7, 2, 22, ""}), ElementsAre("x-colo"));
  EXPECT_THAT(colo_capabilities({10, 2, 0, ""}), ElementsAre("x-colo"));
  EXPECT_THAT(colo_capabilities({11, 0, 0, ""}), ElementsAre("x-colo", "return-path"));
}

TEST(ProcessIdentity, IsTheSameEachTimeAndNoneForNoProcess) {
  const auto self = process_id(::getpid());
  ASSERT_TRUE(self);
  EXPECT_EQ(self->pid, ::getpid());
  EXPECT_GT(self->start_ticks, 0u);
  EXPECT_EQ(process_id(::getpid()), self);
  EXPECT_FALSE(process_id(0));
  EXPECT_FALSE(process_id(-1));
}

TEST(ProcessIdentity, OfAReusedPidIsAnotherProcess) {
  auto other = *process_id(::getpid());
  ++other.start_ticks;
  const auto pidfd = open_pidfd(other);
  ASSERT_FALSE(pidfd);
  EXPECT_EQ(pidfd.error().code, Errc::not_found);
}

}  // namespace
}  // namespace tandem::hypervisor
