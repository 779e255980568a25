// Standard output and error of the command line: whole pieces, a terminal or not, one error line.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"

namespace tandem::cli {

inline constexpr int exit_done = 0;
inline constexpr int exit_failed = 1;
inline constexpr int exit_usage = 2;

bool stdout_is_terminal() noexcept;
bool stderr_is_terminal() noexcept;
/// Columns and rows of the terminal on standard output; 80 and 24 if it does not say.
struct TerminalSize {
  std::size_t columns = 80, rows = 24;
};
TerminalSize terminal_size() noexcept;

/// Writes all of it at once, without a buffer that could be lost or shown in part.
void write_out(std::string_view text);
void write_error(std::string_view text);

void print_lines(const std::vector<std::string>& lines);
void print_json(const nlohmann::json& json);

/// "tandem: message" on standard error; with `json` also the error object on standard output.
/// Returns exit_failed.
int fail(const Error& error, bool json);

/// From now on SIGINT, SIGTERM and SIGHUP end the program at once and with success: for commands
/// that go on until they are interrupted.
void end_on_interrupt();

/// From now on the first SIGINT, SIGTERM or SIGHUP is only noted, for commands that have something
/// to finish; the second one ends the program as usual.
void note_interrupt();
bool interrupted() noexcept;

}  // namespace tandem::cli
