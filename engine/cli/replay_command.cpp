#include "engine/cli/replay_command.hpp"

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iostream>

#include "engine/cli/format.hpp"
#include "engine/cli/output.hpp"
#include "engine/control/json.hpp"

namespace tandem::cli {
namespace {

using control::Replay;
using nlohmann::json;

Result<Replay::Summary> run(const std::string& file, const PolicyChange& change) {
  Replay::Otherwise otherwise;
  if (!change.policy.empty()) otherwise.policy = controller::policy_from_string(change.policy);
  otherwise.parameters = change.parameters;
  if (file == "-") return Replay::run(std::cin, otherwise);
  std::error_code ignored;
  if (std::filesystem::is_directory(file, ignored)) return system_error(file, EISDIR);
  std::ifstream in(file, std::ios::binary);
  if (!in) return system_error("cannot read " + file, errno);
  auto summary = Replay::run(in, otherwise);
  if (!summary) return with_context(file, summary.error());
  return summary;
}

std::string times(std::uint64_t count, const std::string& one, const std::string& many) {
  return std::to_string(count) + " " + (count == 1 ? one : many);
}

std::string share(double part_s, double total_s) {
  return format_share(total_s > 0 ? part_s / total_s : 0);
}

std::string in_words(const controller::Decision& decision) {
  return std::string(to_string(decision.mode)) + " for " +
         format_milliseconds(decision.due_s * 1e3) + " (" +
         std::string(to_string(decision.reason)) + ")";
}

std::string what(const PolicyChange& otherwise) {
  auto text =
      otherwise.policy.empty() ? std::string("The same policy") : "Policy " + otherwise.policy;
  for (const auto& [name, value] : otherwise.parameters) {
    text += (text.find('=') == std::string::npos ? " with " : ", ") + name + "=" +
            format_number(value, 12);
  }
  return text;
}

}  // namespace

std::vector<std::string> replay_lines(const Replay::Summary& summary,
                                      const PolicyChange& otherwise) {
  std::vector<std::string> lines;
  lines.push_back(printable(summary.vm) + ": " + times(summary.decisions, "decision", "decisions") +
                  " in " + format_milliseconds(summary.total_s * 1e3) + ", " +
                  times(summary.changes, "change", "changes") +
                  " of policy or parameters; colo mode for " +
                  share(summary.recorded_colo_s, summary.total_s) + " of the time");
  if (!otherwise.empty()) {
    lines.push_back(what(otherwise) + " says: " + times(summary.mode_changes, "change", "changes") +
                    " of mode, colo mode for " + share(summary.replayed_colo_s, summary.total_s) +
                    " of the time");
    lines.emplace_back(
        "This is what it says of what was observed. In other modes, other things would have been "
        "observed: it is no forecast.");
  }
  if (summary.differences == 0) {
    lines.emplace_back("Every decision is the recorded one.");
    return lines;
  }
  lines.push_back(times(summary.differences, "decision is", "decisions are") +
                  " not the recorded one" + (summary.differences == 1 ? ":" : "s:"));
  for (const auto& difference : summary.first_differences) {
    lines.push_back("  record " + std::to_string(difference.seq) + ": " +
                    in_words(difference.recorded) + " was recorded, now " +
                    in_words(difference.replayed));
  }
  const auto more = summary.differences - summary.first_differences.size();
  if (more > 0) lines.push_back("  and " + std::to_string(more) + " more");
  return lines;
}

json replay_json(const Replay::Summary& summary, const PolicyChange& otherwise) {
  auto differences = json::array();
  for (const auto& difference : summary.first_differences) {
    differences.push_back({{"seq", difference.seq},
                           {"recorded", control::to_json(difference.recorded)},
                           {"replayed", control::to_json(difference.replayed)}});
  }
  return {{"vm", summary.vm},
          {"policy", to_string(summary.policy)},
          {"otherwise", otherwise.empty() ? json() : to_json(otherwise)},
          {"decisions", summary.decisions},
          {"changes", summary.changes},
          {"mode_changes", summary.mode_changes},
          {"differences", summary.differences},
          {"first_differences", std::move(differences)},
          {"total_s", summary.total_s},
          {"recorded_colo_s", summary.recorded_colo_s},
          {"replayed_colo_s", summary.replayed_colo_s}};
}

int replay_file(const std::string& file, const PolicyChange& otherwise, bool as_json) {
  const auto summary = run(file, otherwise);
  if (!summary) return fail(summary.error(), as_json);
  if (as_json) {
    print_json(replay_json(*summary, otherwise));
  } else {
    print_lines(replay_lines(*summary, otherwise));
  }
  if (summary->differences == 0 || !otherwise.empty()) return exit_done;
  return fail({Errc::invalid_input,
               file + ": " + times(summary->differences, "decision is", "decisions are") +
                   " not what was recorded"},
              false);
}

}  // namespace tandem::cli
