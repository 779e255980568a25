#include "engine/daemon/config.hpp"

#include <toml++/toml.h>
#include <algorithm>
#include <limits>
#include <set>

#include "base/file.hpp"
#include "engine/control/json.hpp"

namespace tandem::daemon {
namespace {

std::string place(std::string_view file, const toml::source_region& source) {
  // A table that is not in the file has no line; what it lacks is missing from the first one on.
  return std::string(file) + ":" + std::to_string(std::max<std::uint32_t>(source.begin.line, 1));
}

/// Reads one table: every key that is asked for is noted, and at the end what was not asked for is
/// unknown. The first error stays; what is read after it does not matter.
class Reader {
 public:
  Reader(const toml::table& table, std::string name, std::string_view file, Result<void>& result)
      : table_(table), name_(std::move(name)), file_(file), result_(result) {}

  template <class T>
  const toml::node* take(std::string_view key, std::string_view expected) {
    known_.insert(std::string(key));
    const auto* node = table_.get(key);
    if (node != nullptr && !node->is<T>()) {
      fail(*node, key, "is not " + std::string(expected));
      return nullptr;
    }
    return node;
  }

  void text(std::string_view key, std::string& into) {
    if (const auto* node = take<std::string>(key, "a string")) into = **node->as_string();
  }
  void path(std::string_view key, std::filesystem::path& into) {
    if (const auto* node = take<std::string>(key, "a path (a string)")) into = **node->as_string();
  }
  void flag(std::string_view key, bool& into) {
    if (const auto* node = take<bool>(key, "true or false")) into = **node->as_boolean();
  }
  template <class Integer>
  void number(std::string_view key, Integer& into, std::int64_t min, std::int64_t max) {
    const auto* node = take<std::int64_t>(key, "a whole number");
    if (node == nullptr) return;
    const auto value = **node->as_integer();
    if (value < min || value > max) {
      fail(*node, key,
           "is " + std::to_string(value) + "; expected " + std::to_string(min) + " to " +
               std::to_string(max));
      return;
    }
    into = static_cast<Integer>(value);
  }
  void duration(std::string_view key, std::chrono::milliseconds& into, std::int64_t min,
                std::int64_t max) {
    auto count = into.count();
    number(key, count, min, max);
    into = std::chrono::milliseconds(count);
  }
  /// The controller's parameter `name`.
  void parameter(std::string_view key, std::string_view name, controller::Parameters& into) {
    known_.insert(std::string(key));
    const auto* node = table_.get(key);
    if (node == nullptr) return;
    const auto value = node->value<double>();
    if (!value) return fail(*node, key, "is not a number");
    if (const auto wrong = controller::set(into, name, *value))
      fail(*node, key, "is wrong: " + *wrong);
  }
  void texts(std::string_view key, std::vector<std::string>& into) {
    const auto* node = take<toml::array>(key, "an array of strings");
    if (node == nullptr) return;
    for (const auto& element : *node->as_array()) {
      if (!element.is_string()) {
        fail(element, key, "has an element that is not a string");
        return;
      }
      into.push_back(**element.as_string());
    }
  }
  void endpoint(std::string_view key, transport::Endpoint& into) {
    const auto* node = take<std::string>(key, "an address (\"HOST:PORT\")");
    if (node == nullptr) return;
    auto parsed = transport::parse_endpoint(**node->as_string());
    if (parsed) {
      into = std::move(*parsed);
    } else {
      fail(*node, key, "is wrong: " + parsed.error().message);
    }
  }

  /// A required, valid name.
  void name(std::string& into) {
    text("name", into);
    if (result_ && !is_valid_name(into)) {
      fail(table_, "name", "is missing or not a name (letters, digits, '.', '_', '-'; at most 63)");
    }
  }

  void table(std::string_view key, const std::function<void(Reader&)>& read) {
    const auto* node = take<toml::table>(key, "a table");
    static const toml::table empty;
    Reader reader(node != nullptr ? *node->as_table() : empty, qualified(key), file_, result_);
    read(reader);
    reader.finish();
  }
  void tables(std::string_view key, const std::function<void(Reader&)>& read) {
    const auto* node = take<toml::array>(key, "an array of tables ([[" + qualified(key) + "]])");
    if (node == nullptr) return;
    for (const auto& element : *node->as_array()) {
      if (!element.is_table()) {
        fail(element, key, "is not an array of tables ([[" + qualified(key) + "]])");
        return;
      }
      Reader reader(*element.as_table(), qualified(key), file_, result_);
      read(reader);
      reader.finish();
    }
  }

  void finish() {
    for (const auto& [key, node] : table_) {
      if (!known_.contains(std::string(key.str()))) fail(node, key.str(), "is not a known key");
    }
  }

  void fail(const toml::node& node, std::string_view key, const std::string& what) {
    if (!result_) return;
    result_ = Error{Errc::invalid_input,
                    place(file_, node.source()) + ": " + qualified(key) + " " + what};
  }

  [[nodiscard]] const toml::table& source() const { return table_; }
  [[nodiscard]] bool ok() const { return result_.has_value(); }

 private:
  [[nodiscard]] std::string qualified(std::string_view key) const {
    return name_.empty() ? std::string(key) : name_ + "." + std::string(key);
  }

  const toml::table& table_;
  std::string name_;
  std::string_view file_;
  Result<void>& result_;
  std::set<std::string> known_;
};

void read_web(Reader& reader, Config& config) {
  std::string address = config.web_listen->host + ":" + std::to_string(config.web_listen->port);
  reader.text("listen", address);
  reader.texts("names", config.web_names);
  if (address.empty()) {
    config.web_listen.reset();
    return;
  }
  const auto parsed = transport::parse_endpoint(address);
  boost::system::error_code ec;
  if (parsed) (void)asio::ip::make_address(parsed->host, ec);
  if (!parsed || ec || parsed->port == 0) {
    reader.fail(reader.source(), "listen",
                "is \"" + address +
                    "\"; expected an address of this host in numbers and a port "
                    "(\"127.0.0.1:7071\"), or \"\" for none");
    return;
  }
  config.web_listen = *parsed;
}

void read_controller(Reader& reader, Config& config) {
  std::string policy(to_string(config.policy));
  reader.text("policy", policy);
  const auto known = control::policy_from_string(policy);
  if (known) {
    config.policy = *known;
  } else {
    reader.fail(reader.source(), "policy", "is wrong: " + known.error().message);
  }
  for (const auto& info : controller::parameter_table()) {
    // These two are older than the controller, and have keys of their own.
    if (info.name == "period_ms" || info.name == "colo_checkpoint_max_ms") continue;
    reader.parameter(info.name, info.name, config.controller);
  }
  if (const auto wrong = controller::check(config.controller)) {
    reader.fail(reader.source(), "", "is wrong: " + *wrong);
  }
}

void read_vm(Reader& reader, Config& config) {
  hypervisor::VmDefinition vm;
  reader.name(vm.name);
  reader.number("memory_mib", vm.memory_mib, 1, 16 << 20);
  reader.number("vcpus", vm.vcpus, 1, 1024);
  reader.text("machine", vm.machine);
  reader.text("kernel", vm.kernel);
  reader.text("initrd", vm.initrd);
  reader.text("cmdline", vm.cmdline);
  reader.texts("extra_args", vm.extra_args);
  reader.flag("autostart", vm.autostart);
  reader.tables("nic", [&](Reader& nic_reader) {
    hypervisor::Nic nic;
    nic.id = "n" + std::to_string(vm.nics.size());
    nic_reader.text("id", nic.id);
    nic_reader.text("mac", nic.mac);
    nic_reader.text("tap", nic.tap);
    nic_reader.text("bridge", nic.bridge);
    vm.nics.push_back(std::move(nic));
  });
  if (!reader.ok()) return;
  const auto valid = hypervisor::validate(vm);
  if (!valid) reader.fail(reader.source(), "name", "\"" + vm.name + "\": " + valid.error().message);
  if (std::ranges::find(config.vms, vm.name, &hypervisor::VmDefinition::name) != config.vms.end()) {
    reader.fail(reader.source(), "name", "\"" + vm.name + "\" is defined twice");
  }
  config.vms.push_back(std::move(vm));
}

}  // namespace

bool is_valid_name(std::string_view name) noexcept {
  const auto letter_or_digit = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  return !name.empty() && name.size() <= 63 && letter_or_digit(name.front()) &&
         std::ranges::all_of(
             name, [&](char c) { return letter_or_digit(c) || c == '.' || c == '_' || c == '-'; });
}

Result<Config> parse_config(std::string_view text, std::string_view file_name) {
  toml::table document;
  try {
    document = toml::parse(text, file_name);
  } catch (const toml::parse_error& error) {
    return Error{Errc::invalid_input,
                 place(file_name, error.source()) + ": " + std::string(error.description())};
  }
  Config config;
  Result<void> result;
  Reader root(document, "", file_name, result);
  root.table("host", [&](Reader& host) {
    host.name(config.host);
    host.path("state_dir", config.state_dir);
    host.path("run_dir", config.run_dir);
  });
  config.api_socket = config.run_dir / "api.sock";
  root.table("api", [&](Reader& api) { api.path("socket", config.api_socket); });
  root.table("web", [&](Reader& web) { read_web(web, config); });
  root.table("replication", [&](Reader& replication) {
    replication.endpoint("listen", config.listen);
    replication.duration("heartbeat_ms", config.heartbeat, 10, 10'000);
    replication.duration("heartbeat_timeout_ms", config.heartbeat_timeout, 50, 60'000);
    replication.parameter("checkpoint_period_ms", "period_ms", config.controller);
    if (config.heartbeat_timeout < 2 * config.heartbeat) {
      replication.fail(replication.source(), "heartbeat_timeout_ms",
                       "is less than two heartbeats; a peer would be lost by chance");
    }
  });
  root.table("colo", [&](Reader& colo) {
    colo.duration("compare_timeout_ms", config.colo_compare_timeout, 10, 10'000);
    colo.parameter("checkpoint_max_ms", "colo_checkpoint_max_ms", config.controller);
  });
  root.table("controller", [&](Reader& controller) { read_controller(controller, config); });
  root.table("arbiter", [&](Reader& arbiter) {
    arbiter.text("kind", config.arbiter_kind);
    arbiter.path("directory", config.arbiter_directory);
    if (config.arbiter_kind != "local") {
      arbiter.fail(arbiter.source(), "kind",
                   "is \"" + config.arbiter_kind + "\"; expected \"local\"");
    }
    if (config.arbiter_directory.empty()) {
      arbiter.fail(arbiter.source(), "directory",
                   "is missing: kind \"local\" needs a folder that both daemons see");
    }
  });
  root.table("qemu", [&](Reader& qemu) {
    qemu.path("binary", config.qemu.binary);
    qemu.text("accel", config.qemu.accel);
    qemu.texts("arguments", config.qemu.arguments);
    qemu.texts("environment", config.qemu.environment);
    qemu.path("tcg_shim", config.qemu.tcg_shim);
    if (config.qemu.accel != "auto" && config.qemu.accel != "kvm" && config.qemu.accel != "tcg") {
      qemu.fail(qemu.source(), "accel",
                "is \"" + config.qemu.accel + "\"; expected \"auto\", \"kvm\" or \"tcg\"");
    }
  });
  root.table("watchdog", [&](Reader& watchdog) {
    watchdog.duration("hang_timeout_ms", config.hang_timeout, 100, 60'000);
  });
  root.tables("peer", [&](Reader& reader) {
    Peer peer;
    reader.name(peer.name);
    reader.endpoint("address", peer.address);
    if (reader.ok() && peer.address.host.empty()) {
      reader.fail(reader.source(), "address", "is missing");
    }
    if (peer.name == config.host) {
      reader.fail(reader.source(), "name", "is \"" + peer.name + "\", this host's own name");
    }
    if (std::ranges::find(config.peers, peer.name, &Peer::name) != config.peers.end()) {
      reader.fail(reader.source(), "name", "\"" + peer.name + "\" is defined twice");
    }
    config.peers.push_back(std::move(peer));
  });
  root.tables("vm", [&](Reader& reader) { read_vm(reader, config); });
  root.finish();
  if (!result) return result.error();
  return config;
}

Result<Config> load_config(const std::filesystem::path& path) {
  const auto text = read_file(path);
  if (!text) return with_context("configuration", text.error());
  return parse_config(*text, path.string());
}

}  // namespace tandem::daemon
