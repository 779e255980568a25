// How the command line shows what a daemon answers: pure functions from JSON to text.
//
// They never throw, whatever the JSON holds: a field that is missing or of another type is shown as
// "-". What came from elsewhere is made harmless for a terminal.
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"

namespace tandem::cli {

/// "0 B", "512 B", "1.5 KiB", "250 MiB", "3.2 GiB": three digits at most before the unit.
std::string format_bytes(std::uint64_t bytes);

/// Milliseconds as "0.85 ms", "4.6 ms", "120 ms", "3.2 s"; "-" for what is no duration.
std::string format_milliseconds(double milliseconds);

/// At most so many significant digits, and no more than are needed: "250", "0.02"; "-" for what is
/// no number.
std::string format_number(double value, int digits);

/// A share from 0 to 1 as "97.3 %".
std::string format_share(double share);

/// Unix seconds as "2026-03-01 12:34:56.789" in the time zone of this process.
std::string format_time(double unix_seconds);

/// The text with every control character and broken UTF-8 byte replaced by '?': one line, no
/// escapes.
std::string printable(std::string_view text);

/// How many columns a printable text takes, one for each code point.
std::size_t width(std::string_view text) noexcept;

/// The first `columns` columns of a printable text; one that is longer ends in "…".
std::string truncate(std::string_view text, std::size_t columns);

/// Rows under a heading, columns two spaces apart, no space at the end of a line.
class Table {
 public:
  explicit Table(std::vector<std::string> heading);
  void add(std::vector<std::string> row);
  /// One string a line, the heading first.
  [[nodiscard]] std::vector<std::string> lines() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

/// The answer to GET /v1/status: a line about the host, an empty one, and a table of its VMs.
std::vector<std::string> status_lines(const nlohmann::json& status);

/// One VM, everything about it, a fact a line.
std::vector<std::string> vm_lines(const nlohmann::json& vm);

/// NAME, ROLE, STATE of each VM of a status.
std::vector<std::string> vm_list_lines(const nlohmann::json& status);

/// One VM in one line, for a log that repeats it.
std::string vm_summary(const nlohmann::json& vm);

/// One event in one line.
std::string event_line(const nlohmann::json& event);

/// {"error":{"code","message"}}, as the API answers it.
nlohmann::json error_json(const Error& error);

/// JSON in one line (or indented), whatever bytes its strings hold.
std::string dump(const nlohmann::json& json, int indent = -1);

}  // namespace tandem::cli
