#include "engine/cli/fields.hpp"

#include "engine/cli/format.hpp"

namespace tandem::cli {

using nlohmann::json;

const json* find(const json& object, const char* pointer) {
  const json::json_pointer path(pointer);
  return object.contains(path) ? &object.at(path) : nullptr;
}

double number_or(const json& object, const char* pointer, double otherwise) {
  const auto* value = find(object, pointer);
  return value != nullptr && value->is_number() ? value->get<double>() : otherwise;
}

std::string text_at(const json& object, const char* pointer) {
  const auto* value = find(object, pointer);
  if (value == nullptr || value->is_null()) return nothing;
  const auto text = value->is_string() ? printable(value->get<std::string>()) : dump(*value);
  return text.empty() ? nothing : text;
}

}  // namespace tandem::cli
