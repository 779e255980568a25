// What `tandem doctor` finds: one check, its verdict, and what to do about it. Pure.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::cli {

enum class Verdict { ok, warning, error, skipped };
std::string_view to_string(Verdict verdict) noexcept;

struct Check {
  std::string check;  ///< stable, for programs: "qemu", "bridge:br0", "peer:beta"
  Verdict status = Verdict::ok;
  std::string detail;  ///< what was found
  std::string advice;  ///< what to do; empty where nothing is
};

using Checks = std::vector<Check>;

/// Two lines at most a check: verdict, name and detail; then the advice, indented.
std::vector<std::string> check_lines(const Checks& checks);

/// [{"check","status","detail","advice"}]
nlohmann::json to_json(const Checks& checks);

bool any_error(const Checks& checks) noexcept;

}  // namespace tandem::cli
