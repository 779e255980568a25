// Fields of the daemon's answers, whatever those hold: one that is missing or of another type is
// none, and shown as "-".
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace tandem::cli {

inline constexpr const char* nothing = "-";

/// Null if there is none. `pointer`: "/pause_ms/mean".
const nlohmann::json* find(const nlohmann::json& object, const char* pointer);

double number_or(const nlohmann::json& object, const char* pointer, double otherwise);

/// As it may stand on a terminal: one line, without escapes.
std::string text_at(const nlohmann::json& object, const char* pointer);

}  // namespace tandem::cli
