#include "engine/hypervisor/qemu_command.hpp"

#include <algorithm>
#include <cassert>
#include <string_view>

namespace tandem::hypervisor {
namespace {

/// In QEMU's option lists a comma is written twice.
std::string escaped(const std::string& value) {
  std::string text;
  for (const char c : value) text += c == ',' ? std::string(",,") : std::string(1, c);
  return text;
}

void set_variable(std::vector<std::string>& environment, const std::string& assignment) {
  const auto name = assignment.substr(0, assignment.find('=') + 1);
  std::erase_if(environment, [&](const std::string& other) { return other.starts_with(name); });
  environment.push_back(assignment);
}

}  // namespace

std::vector<std::string> qemu_arguments(const QemuConfig& config, const VmDefinition& vm,
                                        const CommandContext& context) {
  assert(vm.nics.size() == context.tap_fds.size());
  std::vector<std::string> arguments = config.arguments;
  const auto add = [&](std::initializer_list<std::string> more) {
    arguments.insert(arguments.end(), more);
  };
  // Nothing that the definition does not name: no default devices, no files in /etc or in a home.
  add({"-nodefaults", "-no-user-config", "-display", "none", "-msg", "timestamp=on"});
  add({"-name", "guest=" + vm.name + ",debug-threads=on"});
  add({"-machine", vm.machine});
  add({"-accel", context.accelerator == Accelerator::kvm ? "kvm" : "tcg,thread=multi"});
  add({"-m", std::to_string(vm.memory_mib), "-smp", std::to_string(vm.vcpus)});
  if (!vm.kernel.empty()) add({"-kernel", vm.kernel});
  if (!vm.initrd.empty()) add({"-initrd", vm.initrd});
  if (!vm.cmdline.empty()) add({"-append", vm.cmdline});
  add({"-chardev", "socket,id=tandem-qmp,server=on,wait=off,path=" + escaped(context.qmp_socket)});
  add({"-mon", "chardev=tandem-qmp,mode=control"});
  add({"-chardev", "file,id=tandem-serial,path=" + escaped(context.serial)});
  add({"-serial", "chardev:tandem-serial"});
  for (std::size_t i = 0; i < vm.nics.size(); ++i) {
    const auto& nic = vm.nics[i];
    // With vhost the kernel would carry the packets past QEMU's netfilters.
    add({"-netdev",
         "tap,id=" + nic.id + ",fd=" + std::to_string(context.tap_fds[i]) + ",vhost=off"});
    // Without a boot ROM: it is state that nobody needs, and a file that a host may lack.
    add({"-device", "virtio-net-pci,id=nic-" + nic.id + ",netdev=" + nic.id + ",mac=" + nic.mac +
                        ",romfile="});
  }
  add({"-device", "virtio-rng-pci,id=tandem-rng"});
  arguments.insert(arguments.end(), vm.extra_args.begin(), vm.extra_args.end());
  if (context.mode == StartMode::incoming) add({"-incoming", "defer"});
  return arguments;
}

std::vector<std::string> qemu_environment(const QemuConfig& config, std::vector<std::string> base,
                                          const std::filesystem::path& preload) {
  for (const auto& assignment : config.environment) set_variable(base, assignment);
  if (!preload.empty()) {
    constexpr std::string_view name = "LD_PRELOAD=";
    auto value = preload.string();
    for (const auto& other : base) {
      if (other.starts_with(name) && other.size() > name.size()) {
        value += ":" + other.substr(name.size());
      }
    }
    set_variable(base, std::string(name) + value);
  }
  return base;
}

}  // namespace tandem::hypervisor
