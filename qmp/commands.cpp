#include "qmp/commands.hpp"

#include <utility>

namespace tandem::qmp {
namespace {

using nlohmann::json;

/// Runs a command whose answer says nothing but that it was done.
Task<Result<void>> run(Client& client, std::string command, json arguments = json::object(),
                       ExecuteOptions options = {}) {
  auto call = client.execute(std::move(command), std::move(arguments), options);
  const auto answer = co_await std::move(call);
  if (!answer) co_return answer.error();
  co_return Result<void>();
}

/// Says no without asking QEMU.
Task<Result<void>> refuse(Error error) {
  co_return error;
}

Error unexpected(const std::string& command, const std::string& what) {
  return {Errc::protocol, command + " answered without " + what};
}

/// The member `name` of `object`, or null if it is not there or not what `is` asks for.
const json* member(const json& object, const char* name, bool (json::*is)() const noexcept) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(name);
  return found != object.end() && ((*found).*is)() ? &*found : nullptr;
}

std::uint64_t count_or_zero(const json& object, const char* name) {
  const json* const value = member(object, name, &json::is_number_unsigned);
  return value == nullptr ? 0 : value->get<std::uint64_t>();
}

const char* to_string(FilterQueue queue) {
  return queue == FilterQueue::tx ? "tx" : "rx";
}

json filter(const char* type, const std::string& id, const std::string& netdev, FilterQueue queue) {
  json arguments = json::object();
  arguments["qom-type"] = type;
  arguments["id"] = id;
  arguments["netdev"] = netdev;
  arguments["queue"] = to_string(queue);
  arguments["vnet_hdr_support"] = true;
  return arguments;
}

json socket_chardev(const std::string& id, const char* kind, const char* key,
                    const std::string& value) {
  json data = json::object();
  data["addr"]["type"] = kind;
  data["addr"]["data"][key] = value;
  data["server"] = false;
  json arguments = json::object();
  arguments["id"] = id;
  arguments["backend"]["type"] = "socket";
  arguments["backend"]["data"] = std::move(data);
  return arguments;
}

json one(const char* key, const std::string& value) {
  json arguments = json::object();
  arguments[key] = value;
  return arguments;
}

}  // namespace

Task<Result<Status>> query_status(Client& client) {
  auto call = client.execute("query-status");
  const auto answer = co_await std::move(call);
  if (!answer) co_return answer.error();
  const json* const running = member(*answer, "running", &json::is_boolean);
  const json* const state = member(*answer, "status", &json::is_string);
  if (running == nullptr || state == nullptr) {
    co_return unexpected("query-status", "'running' and 'status'");
  }
  Status status;
  status.running = running->get<bool>();
  status.state = state->get<std::string>();
  co_return status;
}

Task<Result<void>> cont(Client& client) {
  return run(client, "cont");
}

Task<Result<void>> stop(Client& client) {
  return run(client, "stop");
}

Task<Result<void>> quit(Client& client) {
  auto call = run(client, "quit");
  const auto done = co_await std::move(call);
  if (!done && done.error().code != Errc::closed) co_return done.error();
  co_return Result<void>();
}

Task<Result<void>> system_powerdown(Client& client) {
  return run(client, "system_powerdown");
}

Task<Result<MigrationStatus>> query_migrate(Client& client) {
  auto call = client.execute("query-migrate");
  const auto answer = co_await std::move(call);
  if (!answer) co_return answer.error();
  if (!answer->is_object()) co_return unexpected("query-migrate", "an object");
  MigrationStatus status;
  status.status = "none";
  if (answer->contains("status")) {
    const json* const text = member(*answer, "status", &json::is_string);
    if (text == nullptr) co_return unexpected("query-migrate", "a 'status' that is a string");
    status.status = text->get<std::string>();
  }
  if (const json* const text = member(*answer, "error-desc", &json::is_string); text != nullptr) {
    status.description = text->get<std::string>();
  }
  if (const json* const ram = member(*answer, "ram", &json::is_object); ram != nullptr) {
    status.ram_transferred = count_or_zero(*ram, "transferred");
    status.ram_remaining = count_or_zero(*ram, "remaining");
    status.ram_total = count_or_zero(*ram, "total");
  }
  co_return status;
}

Task<Result<void>> set_capabilities(Client& client,
                                    const std::vector<std::pair<std::string, bool>>& capabilities) {
  json list = json::array();
  for (const auto& [name, state] : capabilities) {
    json capability = json::object();
    capability["capability"] = name;
    capability["state"] = state;
    list.push_back(std::move(capability));
  }
  json arguments = json::object();
  arguments["capabilities"] = std::move(list);
  return run(client, "migrate-set-capabilities", std::move(arguments));
}

Task<Result<void>> set_parameters(Client& client, MigrationParameters parameters) {
  json arguments = json::object();
  if (parameters.checkpoint_delay_ms) {
    arguments["x-checkpoint-delay"] = *parameters.checkpoint_delay_ms;
  }
  if (parameters.max_bandwidth) arguments["max-bandwidth"] = *parameters.max_bandwidth;
  if (parameters.announce_rounds) arguments["announce-rounds"] = *parameters.announce_rounds;
  return run(client, "migrate-set-parameters", std::move(arguments));
}

Task<Result<void>> migrate(Client& client, const std::string& uri) {
  return run(client, "migrate", one("uri", uri));
}

Task<Result<void>> migrate_incoming(Client& client, const std::string& uri) {
  return run(client, "migrate-incoming", one("uri", uri));
}

Task<Result<void>> migrate_cancel(Client& client) {
  return run(client, "migrate_cancel");
}

Task<Result<void>> colo_lost_heartbeat(Client& client) {
  return run(client, "x-colo-lost-heartbeat");
}

Task<Result<void>> getfd(Client& client, const std::string& name, int fd) {
  ExecuteOptions options;
  options.fd = fd;
  if (fd < 0) return refuse({Errc::invalid_input, "getfd " + name + ": no descriptor given"});
  return run(client, "getfd", one("fdname", name), options);
}

Task<Result<void>> closefd(Client& client, const std::string& name) {
  return run(client, "closefd", one("fdname", name));
}

Task<Result<void>> add_fd_chardev(Client& client, const std::string& id,
                                  const std::string& fd_name) {
  return run(client, "chardev-add", socket_chardev(id, "fd", "str", fd_name));
}

Task<Result<void>> add_unix_chardev(Client& client, const std::string& id,
                                    const std::string& path) {
  return run(client, "chardev-add", socket_chardev(id, "unix", "path", path));
}

Task<Result<void>> remove_chardev(Client& client, const std::string& id) {
  return run(client, "chardev-remove", one("id", id));
}

Task<Result<std::vector<std::string>>> query_chardevs(Client& client) {
  auto call = client.execute("query-chardev");
  const auto answer = co_await std::move(call);
  if (!answer) co_return answer.error();
  if (!answer->is_array()) co_return unexpected("query-chardev", "a list");
  std::vector<std::string> ids;
  for (const json& chardev : *answer) {
    const json* const label = member(chardev, "label", &json::is_string);
    if (label == nullptr) co_return unexpected("query-chardev", "a 'label' for each chardev");
    ids.push_back(label->get<std::string>());
  }
  co_return ids;
}

Task<Result<void>> add_filter_mirror(Client& client, const std::string& id,
                                     const std::string& netdev, FilterQueue queue,
                                     const std::string& out_chardev, FilterPosition position) {
  json arguments = filter("filter-mirror", id, netdev, queue);
  if (position == FilterPosition::head) arguments["position"] = "head";
  arguments["outdev"] = out_chardev;
  return run(client, "object-add", std::move(arguments));
}

Task<Result<void>> add_filter_redirector(Client& client, const std::string& id,
                                         const std::string& netdev, FilterQueue queue,
                                         const std::string& in_chardev,
                                         const std::string& out_chardev) {
  if (in_chardev.empty() == out_chardev.empty()) {
    return refuse({Errc::invalid_input, "filter-redirector " + id +
                                            ": name either the chardev to read from or the one to "
                                            "write to"});
  }
  json arguments = filter("filter-redirector", id, netdev, queue);
  if (!in_chardev.empty()) arguments["indev"] = in_chardev;
  if (!out_chardev.empty()) arguments["outdev"] = out_chardev;
  return run(client, "object-add", std::move(arguments));
}

Task<Result<void>> switch_filter_on(Client& client, const std::string& id) {
  json arguments = one("path", "/objects/" + id);
  arguments["property"] = "status";
  arguments["value"] = "on";
  return run(client, "qom-set", std::move(arguments));
}

Task<Result<void>> delete_object(Client& client, const std::string& id) {
  return run(client, "object-del", one("id", id));
}

Task<Result<std::vector<std::string>>> list_objects(Client& client) {
  auto call = client.execute("qom-list", one("path", "/objects"));
  const auto answer = co_await std::move(call);
  if (!answer) co_return answer.error();
  if (!answer->is_array()) co_return unexpected("qom-list", "a list");
  std::vector<std::string> ids;
  for (const json& property : *answer) {
    const json* const name = member(property, "name", &json::is_string);
    const json* const type = member(property, "type", &json::is_string);
    if (name == nullptr || type == nullptr) {
      co_return unexpected("qom-list", "a 'name' and a 'type' for each property");
    }
    // The container has properties of its own, such as "type"; the objects are its children.
    if (type->get_ref<const std::string&>().starts_with("child<")) {
      ids.push_back(name->get<std::string>());
    }
  }
  co_return ids;
}

Task<Result<void>> announce_self(Client& client, Announce announce) {
  json arguments = json::object();
  arguments["initial"] = announce.initial_ms;
  arguments["max"] = announce.max_ms;
  arguments["rounds"] = announce.rounds;
  arguments["step"] = announce.step_ms;
  return run(client, "announce-self", std::move(arguments));
}

}  // namespace tandem::qmp
