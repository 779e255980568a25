#include "engine/session/setup.hpp"

#include "engine/control/json.hpp"

namespace tandem::session {
namespace {

using std::chrono::milliseconds;

Result<milliseconds> duration(const nlohmann::json& json, const char* key, std::int64_t min,
                              std::int64_t max) {
  const auto count = json.at(key).get<std::int64_t>();
  if (count < min || count > max) {
    return Error{Errc::invalid_input, std::string(key) + " is " + std::to_string(count)};
  }
  return milliseconds(count);
}

}  // namespace

std::string encode_setup(const Setup& setup) {
  return nlohmann::json{{"vm", hypervisor::to_json(setup.definition)},
                        {"primary", setup.settings.host},
                        {"secondary", setup.settings.peer},
                        {"generation", setup.settings.generation},
                        {"heartbeat_ms", setup.settings.heartbeat.count()},
                        {"heartbeat_timeout_ms", setup.settings.heartbeat_timeout.count()},
                        {"policy", to_string(setup.settings.policy)},
                        {"parameters", control::to_json(setup.settings.parameters)},
                        {"qemu_version", setup.qemu_version},
                        {"accelerator", setup.accelerator},
                        {"arbiter", setup.arbiter}}
      .dump();
}

Result<Setup> decode_setup(std::string_view text) {
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object()) return Error{Errc::invalid_input, "the pair's set-up is not JSON"};
  try {
    auto definition = hypervisor::vm_from_json(json.at("vm"));
    if (!definition) return with_context("the pair's set-up: vm", definition.error());
    const auto heartbeat = duration(json, "heartbeat_ms", 10, 10'000);
    const auto timeout = duration(json, "heartbeat_timeout_ms", 50, 60'000);
    for (const auto* checked : {&heartbeat, &timeout}) {
      if (!*checked) return with_context("the pair's set-up", checked->error());
    }
    const auto policy = control::policy_from_string(json.at("policy").get<std::string>());
    if (!policy) return with_context("the pair's set-up", policy.error());
    Setup setup;
    setup.settings.vm = definition->name;
    setup.settings.host = json.at("primary");
    setup.settings.peer = json.at("secondary");
    setup.settings.generation = json.at("generation");
    setup.settings.heartbeat = *heartbeat;
    setup.settings.heartbeat_timeout = *timeout;
    setup.settings.policy = *policy;
    const auto set = control::set_parameters(json.at("parameters"), setup.settings.parameters);
    if (!set) return with_context("the pair's set-up", set.error());
    setup.settings.checkpoint_bytes_max = checkpoint_bytes_max(definition->memory_mib);
    setup.qemu_version = json.at("qemu_version");
    setup.accelerator = json.at("accelerator");
    setup.arbiter = json.at("arbiter");
    setup.definition = std::move(*definition);
    return setup;
  } catch (const nlohmann::json::exception& error) {
    return Error{Errc::invalid_input, std::string("the pair's set-up: ") + error.what()};
  }
}

}  // namespace tandem::session
