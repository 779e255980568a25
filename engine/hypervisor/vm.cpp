#include "engine/hypervisor/vm.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <set>
#include <string_view>

namespace tandem::hypervisor {
namespace {

using nlohmann::json;

constexpr std::uint32_t memory_mib_min = 16, memory_mib_max = 16u << 20;
constexpr std::uint32_t vcpus_max = 1024;
constexpr std::size_t nics_max = 16, extra_args_max = 256, text_bytes_max = 64u << 10;
constexpr std::size_t interface_name_max = 15;  // IFNAMSIZ, less its terminating zero

Error invalid(const std::string& field, const std::string& expected) {
  return {Errc::invalid_input, field + ": expected " + expected};
}

/// What QEMU would otherwise be told by us and by the definition.
constexpr std::array<std::string_view, 4> reserved_arguments{"daemonize", "incoming", "pidfile",
                                                             "runas"};

bool is_alphanumeric(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool consists_of(std::string_view text, std::string_view punctuation) {
  return std::all_of(text.begin(), text.end(), [&](char c) {
    return is_alphanumeric(c) || punctuation.find(c) != std::string_view::npos;
  });
}

bool is_text(std::string_view text) {
  return text.size() <= text_bytes_max && text.find('\0') == std::string_view::npos;
}

/// What Linux accepts as the name of a network interface, less what scripts and QEMU would trip on.
bool is_interface_name(std::string_view name) {
  return !name.empty() && name.size() <= interface_name_max && is_alphanumeric(name.front()) &&
         consists_of(name, "._-");
}

/// Six pairs of hexadecimal digits; a NIC's own address is never a group address (lowest bit of the
/// first byte).
bool is_unicast_mac(std::string_view mac) {
  if (mac.size() != 17) return false;
  for (std::size_t at = 0; at < mac.size(); ++at) {
    const bool hexadecimal = (mac[at] >= '0' && mac[at] <= '9') ||
                             (mac[at] >= 'a' && mac[at] <= 'f') ||
                             (mac[at] >= 'A' && mac[at] <= 'F');
    if (at % 3 == 2 ? mac[at] != ':' : !hexadecimal) return false;
  }
  return std::string_view("02468aceACE").find(mac[1]) != std::string_view::npos;
}

Result<void> validate_nic(const Nic& nic, const std::string& field) {
  if (nic.id.empty() || nic.id.size() > 32 || !is_alphanumeric(nic.id.front()) ||
      (nic.id.front() >= '0' && nic.id.front() <= '9') || !consists_of(nic.id, "._-")) {
    return invalid(field + ".id",
                   "a letter, then at most 31 of A-Z a-z 0-9 . _ -; not '" + nic.id + "'");
  }
  if (!is_unicast_mac(nic.mac)) {
    return invalid(field + ".mac",
                   "a unicast address such as 52:54:00:12:34:56, not '" + nic.mac + "'");
  }
  if (!is_interface_name(nic.tap)) {
    return invalid(field + ".tap",
                   "an interface name of 1 to 15 of A-Z a-z 0-9 . _ -, not '" + nic.tap + "'");
  }
  if (!nic.bridge.empty() && !is_interface_name(nic.bridge)) {
    return invalid(field + ".bridge",
                   "nothing, or an interface name of at most 15 of A-Z a-z 0-9 . _ -, not '" +
                       nic.bridge + "'");
  }
  return {};
}

Result<void> validate_extra_args(const std::vector<std::string>& arguments) {
  if (arguments.size() > extra_args_max) {
    return invalid("extra_args", "at most " + std::to_string(extra_args_max) + " arguments");
  }
  for (const auto& argument : arguments) {
    if (!is_text(argument)) {
      return invalid("extra_args", "arguments of at most 65536 bytes without a zero byte");
    }
    // QEMU takes one dash or two.
    auto name = std::string_view(argument);
    while (name.starts_with('-')) name.remove_prefix(1);
    if (name.size() != argument.size() &&
        std::find(reserved_arguments.begin(), reserved_arguments.end(), name) !=
            reserved_arguments.end()) {
      return invalid("extra_args", "no " + argument + ": Tandem decides that itself");
    }
  }
  return {};
}

/// Takes the members of one JSON object, each once, and tells which are left.
class ObjectReader {
 public:
  ObjectReader(const json& object, std::string prefix)
      : object_(object), prefix_(std::move(prefix)) {}

  Result<void> check_is_object() const {
    if (!object_.is_object()) return invalid(prefix_.empty() ? "VM" : prefix_, "an object");
    return {};
  }

  void take(const char* key, std::string& to) {
    if (const auto* member = find(key)) {
      if (member->is_string()) {
        to = member->get<std::string>();
      } else {
        fail(key, "a string");
      }
    }
  }

  void take(const char* key, bool& to) {
    if (const auto* member = find(key)) {
      if (member->is_boolean()) {
        to = member->get<bool>();
      } else {
        fail(key, "true or false");
      }
    }
  }

  void take(const char* key, std::uint32_t& to) {
    if (const auto* member = find(key)) {
      constexpr std::uint64_t max = std::numeric_limits<std::uint32_t>::max();
      const bool natural = member->is_number_unsigned() ||
                           (member->is_number_integer() && member->get<std::int64_t>() >= 0);
      if (natural && member->get<std::uint64_t>() <= max) {
        to = member->get<std::uint32_t>();
      } else {
        fail(key, "a whole number from 0 to " + std::to_string(max));
      }
    }
  }

  void take(const char* key, std::vector<std::string>& to) {
    if (const auto* member = find(key)) {
      if (!member->is_array()) return fail(key, "an array of strings");
      for (const auto& item : *member) {
        if (!item.is_string()) return fail(key, "an array of strings");
        to.push_back(item.get<std::string>());
      }
    }
  }

  /// The member, or nullptr.
  const json* find(const char* key) {
    known_.insert(key);
    const auto at = object_.find(key);
    return at == object_.end() ? nullptr : &*at;
  }

  void fail(const char* key, const std::string& expected) {
    if (result_) result_ = invalid(prefix_ + (prefix_.empty() ? "" : ".") + key, expected);
  }

  /// The first fault: a wrong type, or a key that was never asked for.
  Result<void> finish() {
    for (const auto& item : object_.items()) {
      if (!known_.contains(item.key()) && result_) {
        const auto where = prefix_ + (prefix_.empty() ? "" : ".") + item.key();
        std::string names;
        for (const auto& name : known_) names += (names.empty() ? "" : ", ") + name;
        result_ = Error{Errc::invalid_input, where + ": unknown; known are " + names};
      }
    }
    return result_;
  }

 private:
  const json& object_;
  std::string prefix_;
  std::set<std::string> known_;
  Result<void> result_;
};

Result<Nic> nic_from_json(const json& object, const std::string& prefix) {
  ObjectReader reader(object, prefix);
  if (auto r = reader.check_is_object(); !r) return r.error();
  Nic nic;
  reader.take("id", nic.id);
  reader.take("mac", nic.mac);
  reader.take("tap", nic.tap);
  reader.take("bridge", nic.bridge);
  if (auto r = reader.finish(); !r) return r.error();
  return nic;
}

}  // namespace

Result<void> validate(const VmDefinition& vm) {
  if (vm.name.empty() || vm.name.size() > 63 || !is_alphanumeric(vm.name.front()) ||
      !consists_of(vm.name, "._-")) {
    return invalid(
        "name", "a letter or digit, then at most 62 of A-Z a-z 0-9 . _ -; not '" + vm.name + "'");
  }
  if (vm.memory_mib < memory_mib_min || vm.memory_mib > memory_mib_max) {
    return invalid("memory_mib", std::to_string(memory_mib_min) + " to " +
                                     std::to_string(memory_mib_max) + ", not " +
                                     std::to_string(vm.memory_mib));
  }
  if (vm.vcpus < 1 || vm.vcpus > vcpus_max) {
    return invalid("vcpus",
                   "1 to " + std::to_string(vcpus_max) + ", not " + std::to_string(vm.vcpus));
  }
  if (vm.machine.empty() || vm.machine.size() > 256 || !consists_of(vm.machine, "._-+,=")) {
    return invalid("machine", "a QEMU machine type such as pc or q35, not '" + vm.machine + "'");
  }
  for (const auto& [field, path] :
       {std::pair("kernel", &vm.kernel), std::pair("initrd", &vm.initrd)}) {
    if (!path->empty() && (path->front() != '/' || !is_text(*path))) {
      return invalid(field, "an absolute path, not '" + *path + "'");
    }
  }
  if (!is_text(vm.cmdline)) return invalid("cmdline", "at most 65536 bytes without a zero byte");
  if (vm.kernel.empty() && !(vm.initrd.empty() && vm.cmdline.empty())) {
    return invalid("kernel", "a path, since initrd or cmdline is given");
  }
  if (vm.nics.size() > nics_max) return invalid("nics", "at most " + std::to_string(nics_max));
  std::set<std::string> ids, macs, taps;
  for (std::size_t i = 0; i < vm.nics.size(); ++i) {
    const auto field = "nics[" + std::to_string(i) + "]";
    const auto& nic = vm.nics[i];
    if (auto r = validate_nic(nic, field); !r) return r.error();
    auto mac = nic.mac;
    std::transform(mac.begin(), mac.end(), mac.begin(), [](char c) {
      return c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a') : c;
    });
    if (!ids.insert(nic.id).second) return invalid(field + ".id", "a different one for each NIC");
    if (!macs.insert(mac).second) return invalid(field + ".mac", "a different one for each NIC");
    if (!taps.insert(nic.tap).second)
      return invalid(field + ".tap", "a different one for each NIC");
  }
  return validate_extra_args(vm.extra_args);
}

json to_json(const VmDefinition& vm) {
  auto nics = json::array();
  for (const auto& nic : vm.nics) {
    nics.push_back({{"id", nic.id}, {"mac", nic.mac}, {"tap", nic.tap}, {"bridge", nic.bridge}});
  }
  return {{"name", vm.name},          {"memory_mib", vm.memory_mib}, {"vcpus", vm.vcpus},
          {"machine", vm.machine},    {"kernel", vm.kernel},         {"initrd", vm.initrd},
          {"cmdline", vm.cmdline},    {"nics", std::move(nics)},     {"extra_args", vm.extra_args},
          {"autostart", vm.autostart}};
}

Result<VmDefinition> vm_from_json(const json& object) {
  ObjectReader reader(object, "");
  if (auto r = reader.check_is_object(); !r) return r.error();
  VmDefinition vm;
  reader.take("name", vm.name);
  reader.take("memory_mib", vm.memory_mib);
  reader.take("vcpus", vm.vcpus);
  reader.take("machine", vm.machine);
  reader.take("kernel", vm.kernel);
  reader.take("initrd", vm.initrd);
  reader.take("cmdline", vm.cmdline);
  reader.take("extra_args", vm.extra_args);
  reader.take("autostart", vm.autostart);
  if (const auto* nics = reader.find("nics")) {
    if (!nics->is_array()) reader.fail("nics", "an array of objects");
    for (std::size_t i = 0; nics->is_array() && i < nics->size() && i <= nics_max; ++i) {
      auto nic = nic_from_json((*nics)[i], "nics[" + std::to_string(i) + "]");
      if (!nic) return nic.error();
      vm.nics.push_back(*std::move(nic));
    }
  }
  if (auto r = reader.finish(); !r) return r.error();
  if (auto r = validate(vm); !r) return r.error();
  return vm;
}

}  // namespace tandem::hypervisor
