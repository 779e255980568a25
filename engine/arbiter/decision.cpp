#include "engine/arbiter/decision.hpp"

#include <nlohmann/json.hpp>

namespace tandem::arbiter {

Result<Record> establish(const std::optional<Record>& old, const std::string& pair,
                         const std::string& primary, const std::string& secondary) {
  if (old && !old->solo.empty() && old->solo != primary) {
    return Error{Errc::conflict, pair + " runs on " + old->solo + " (generation " +
                                     std::to_string(old->generation) + "), not on " + primary +
                                     ": protect it from there"};
  }
  if (old && old->solo.empty() && !old->primary.empty() && old->primary != primary) {
    return Error{Errc::conflict,
                 pair + " is protected already, from " + old->primary + " to " + old->secondary};
  }
  return Record{pair, (old ? old->generation : 0) + 1, primary, secondary, ""};
}

Claimed claim(const std::optional<Record>& old, std::uint64_t generation, const std::string& host) {
  if (!old) return {{false, 0, "nobody (the arbiter does not know this pair)"}, std::nullopt};
  const bool member = !host.empty() && (host == old->primary || host == old->secondary);
  if (member && old->solo.empty() && old->generation == generation) {
    auto next = *old;
    ++next.generation;
    next.solo = host;
    return {{true, next.generation, host}, next};
  }
  // The same question again, after its answer was lost.
  if (old->solo == host && old->generation == generation + 1) {
    return {{true, old->generation, host}, std::nullopt};
  }
  return {{false, old->generation, old->solo.empty() ? old->primary : old->solo}, std::nullopt};
}

Claimed claim_start(const std::optional<Record>& old, const std::string& host) {
  // A VM that was never protected, or that has been retired, is anybody's.
  if (!old) return {{true, 0, host}, std::nullopt};
  if (old->solo.empty() && old->primary.empty()) return {{true, old->generation, host}, std::nullopt};
  if (old->solo == host) return {{true, old->generation, host}, std::nullopt};
  return claim(old, old->generation, host);
}

Result<Record> retire(const Record& old, const std::string& host) {
  if (old.solo != host) {
    return Error{Errc::conflict, old.pair + " is not run by " + host + " alone"};
  }
  return Record{old.pair, old.generation, "", "", ""};
}

std::string to_json(const Record& record) {
  return nlohmann::json{{"pair", record.pair},
                        {"generation", record.generation},
                        {"primary", record.primary},
                        {"secondary", record.secondary},
                        {"solo", record.solo}}
      .dump();
}

Result<Record> record_from_json(std::string_view text) {
  const auto json = nlohmann::json::parse(text, nullptr, false);
  const auto text_at = [&](const char* key) {
    return json.is_object() && json.contains(key) && json[key].is_string();
  };
  if (!text_at("pair") || !text_at("primary") || !text_at("secondary") || !text_at("solo") ||
      !json.contains("generation") || !json["generation"].is_number_unsigned()) {
    return Error{Errc::invalid_input, "not an arbiter record"};
  }
  return Record{json["pair"], json["generation"], json["primary"], json["secondary"], json["solo"]};
}

}  // namespace tandem::arbiter
