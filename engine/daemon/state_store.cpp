#include "engine/daemon/state_store.hpp"

#include <nlohmann/json.hpp>

#include "base/base64.hpp"
#include "base/file.hpp"

namespace tandem::daemon {
namespace {

// Raised when the file's meaning changes; an older or newer daemon then refuses it by name.
constexpr int format = 2;

Result<Role> role_from(const std::string& text) {
  for (const auto role : {Role::none, Role::primary, Role::secondary, Role::solo}) {
    if (to_string(role) == text) return role;
  }
  return Error{Errc::invalid_input, "unknown role \"" + text + "\""};
}

Result<std::map<std::string, proxy::TranslationTable>> translations_from(
    const nlohmann::json& json) {
  std::map<std::string, proxy::TranslationTable> translations;
  for (const auto& [netdev, text] : json.items()) {
    const auto bytes = decode_base64(text.get<std::string>());
    if (!bytes) return with_context("translations of " + netdev, bytes.error());
    auto table = proxy::decode_translations(*bytes);
    if (!table) return with_context("translations of " + netdev, table.error());
    translations.emplace(netdev, std::move(*table));
  }
  return translations;
}

Result<VmState> parse(const std::string& text) {
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object()) return Error{Errc::invalid_input, "not JSON"};
  const auto found = json.find("format");
  if (found == json.end() || *found != format) {
    return Error{Errc::invalid_input, "written by another version of tandemd"};
  }
  try {
    auto definition = hypervisor::vm_from_json(json.at("definition"));
    if (!definition) return definition.error();
    const auto role = role_from(json.at("role"));
    if (!role) return role.error();
    auto translations = translations_from(json.at("translations"));
    if (!translations) return translations.error();
    return VmState{std::move(*definition),
                   {json.at("pid"), json.at("start_ticks")},
                   *role,
                   json.at("generation"),
                   json.at("peer"),
                   std::move(*translations)};
  } catch (const nlohmann::json::exception& error) {
    return Error{Errc::invalid_input, error.what()};
  }
}

}  // namespace

std::string_view to_string(Role role) noexcept {
  switch (role) {
    case Role::none:
      return "none";
    case Role::primary:
      return "primary";
    case Role::secondary:
      return "secondary";
    case Role::solo:
      return "solo";
  }
  return "unknown";
}

Result<void> StateStore::prepare() const {
  std::error_code ec;
  std::filesystem::create_directories(directory_, ec);
  if (ec) return system_error("cannot create " + directory_.string(), ec.value());
  return {};
}

Result<void> StateStore::save(const VmState& state) const {
  auto translations = nlohmann::json::object();
  for (const auto& [netdev, table] : state.translations) {
    translations[netdev] = encode_base64(proxy::encode(table));
  }
  const nlohmann::json json{{"format", format},
                            {"definition", hypervisor::to_json(state.definition)},
                            {"pid", state.process.pid},
                            {"start_ticks", state.process.start_ticks},
                            {"role", to_string(state.role)},
                            {"generation", state.generation},
                            {"peer", state.peer},
                            {"translations", std::move(translations)}};
  // A loss of power ends the VM that this speaks of, so the text need not survive it.
  return replace_file(directory_ / (state.definition.name + ".json"), json.dump(2), false);
}

Result<void> StateStore::remove(const std::string& vm) const {
  std::error_code ec;
  std::filesystem::remove(directory_ / (vm + ".json"), ec);
  if (ec) return system_error("cannot remove the state of " + vm, ec.value());
  return {};
}

std::vector<VmState> StateStore::load_all(std::vector<Error>& errors) const {
  std::vector<VmState> states;
  std::error_code ec;
  for (const auto& entry : std::filesystem::directory_iterator(directory_, ec)) {
    if (entry.path().extension() != ".json") continue;
    const auto text = read_file(entry.path());
    auto state = text ? parse(*text) : Result<VmState>(text.error());
    if (state) {
      states.push_back(std::move(*state));
    } else {
      errors.push_back(with_context(entry.path().string(), state.error()));
    }
  }
  if (ec) errors.push_back(system_error("cannot read " + directory_.string(), ec.value()));
  return states;
}

}  // namespace tandem::daemon
