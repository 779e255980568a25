#include "engine/cli/check.hpp"

#include <algorithm>

#include "engine/cli/format.hpp"

namespace tandem::cli {

std::string_view to_string(Verdict verdict) noexcept {
  switch (verdict) {
    case Verdict::ok:
      return "ok";
    case Verdict::warning:
      return "warning";
    case Verdict::error:
      return "error";
    case Verdict::skipped:
      return "skipped";
  }
  return "unknown";
}

std::vector<std::string> check_lines(const Checks& checks) {
  constexpr std::size_t verdict_width = 9;
  std::size_t widest = 0;
  for (const auto& check : checks) widest = std::max(widest, width(printable(check.check)));
  std::vector<std::string> lines;
  for (const auto& check : checks) {
    std::string line(to_string(check.status));
    line.resize(verdict_width, ' ');
    const auto name = printable(check.check);
    line += name + std::string(widest - width(name) + 2, ' ') + printable(check.detail);
    lines.push_back(std::move(line));
    if (!check.advice.empty()) {
      lines.push_back(std::string(verdict_width, ' ') + "-> " + printable(check.advice));
    }
  }
  return lines;
}

nlohmann::json to_json(const Checks& checks) {
  auto list = nlohmann::json::array();
  for (const auto& check : checks) {
    list.push_back({{"check", check.check},
                    {"status", to_string(check.status)},
                    {"detail", check.detail},
                    {"advice", check.advice}});
  }
  return list;
}

bool any_error(const Checks& checks) noexcept {
  return std::ranges::any_of(checks,
                             [](const Check& check) { return check.status == Verdict::error; });
}

}  // namespace tandem::cli
