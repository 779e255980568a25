#include "engine/cli/format.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <ctime>

#include "engine/cli/fields.hpp"

namespace tandem::cli {
namespace {

using nlohmann::json;

std::string decimals(double value, int count) {
  std::array<char, 400> text{};
  std::snprintf(text.data(), text.size(), "%.*f", count, value);
  return text.data();
}

std::string bytes_at(const json& object, const char* pointer) {
  const auto value = number_or(object, pointer, -1);
  return value < 0 || value > 1e18 ? nothing : format_bytes(static_cast<std::uint64_t>(value));
}

std::string milliseconds_at(const json& object, const char* pointer) {
  return format_milliseconds(number_or(object, pointer, std::nan("")));
}

/// The VM's pause is worth showing only once there was one.
bool has_pauses(const json& vm) {
  return number_or(vm, "/pause_ms/count", 0) > 0;
}

bool is_in_pair(const json& vm) {
  const auto role = text_at(vm, "/role");
  return role == "primary" || role == "secondary";
}

std::string pauses(const json& vm) {
  if (!has_pauses(vm)) return nothing;
  return milliseconds_at(vm, "/pause_ms/mean") + " / " + milliseconds_at(vm, "/pause_ms/p99");
}

/// Which VM the share is of depends on the role: each host knows how long its own was stopped.
std::string stopped(const json& vm) {
  const auto share = number_or(vm, "/stopped_ratio", -1);
  return is_in_pair(vm) && share >= 0 ? format_share(share) : nothing;
}

std::string checkpoints(const json& vm) {
  return is_in_pair(vm) ? text_at(vm, "/checkpoints/committed") : nothing;
}

std::string held_frames(const json& vm) {
  return is_in_pair(vm) ? text_at(vm, "/gate/held_frames") : nothing;
}

std::string mode(const json& vm) {
  return is_in_pair(vm) ? text_at(vm, "/mode") : nothing;
}

std::string policy(const json& vm) {
  return is_in_pair(vm) ? text_at(vm, "/policy") : nothing;
}

std::string figure(const json& vm, const std::string& name) {
  const auto pointer = "/controller/figures/" + name;
  return format_number(number_or(vm, pointer.c_str(), std::nan("")), 3);
}

/// The VM's downtime ratio, and the bound that its policy keeps it within, if it has one.
std::string downtime(const json& vm) {
  const auto ratio = figure(vm, "downtime_ratio");
  const auto bound = figure(vm, "downtime_ratio_bound");
  return bound == nothing ? ratio : ratio + " / " + bound;
}

bool has_controller(const json& vm) {
  const auto* controller = find(vm, "/controller");
  return controller != nullptr && controller->is_object();
}

bool has_to_do_with_colo(const json& vm) {
  return text_at(vm, "/policy") != "periodic" || text_at(vm, "/mode") == "colo" ||
         number_or(vm, "/compare/mismatch_checkpoints", 0) > 0;
}

/// "12: payload 3, timeout 9; checkpoints asked for: 4".
std::string mismatches(const json& vm) {
  double sum = 0;
  std::string reasons;
  for (const std::string reason :
       {"payload", "length", "event", "timeout", "overflow", "unparsable"}) {
    const auto pointer = "/compare/mismatches/" + reason;
    const auto count = number_or(vm, pointer.c_str(), 0);
    if (count <= 0) continue;
    sum += count;
    reasons += (reasons.empty() ? "" : ", ") + reason + " " + text_at(vm, pointer.c_str());
  }
  if (reasons.empty()) return "none";
  return decimals(sum, 0) + ": " + reasons +
         "; checkpoints asked for: " + text_at(vm, "/compare/mismatch_checkpoints");
}

/// The flows that differed most often, those that did so last before others.
std::vector<std::string> mismatch_flows(const json& vm) {
  constexpr std::size_t shown_max = 5;
  std::vector<const json*> flows;
  const auto* list = find(vm, "/compare/mismatch_flows");
  if (list != nullptr && list->is_array()) {
    for (const auto& flow : *list) flows.push_back(&flow);
  }
  std::ranges::stable_sort(flows, std::greater(),
                           [](const json* flow) { return number_or(*flow, "/count", 0); });
  std::vector<std::string> lines;
  for (const auto* flow : flows) {
    if (lines.size() == shown_max) break;
    lines.push_back(text_at(*flow, "/count") + " x " + text_at(*flow, "/flow") + ", last " +
                    format_time(number_or(*flow, "/time", -1)) + ": " + text_at(*flow, "/reason") +
                    ", " + text_at(*flow, "/detail"));
  }
  return lines;
}

const json& vms_of(const json& status) {
  static const json none = json::array();
  const auto* vms = find(status, "/vms");
  return vms != nullptr && vms->is_array() ? *vms : none;
}

std::string qemu_of(const json& status) {
  const auto* qemu = find(status, "/qemu");
  if (qemu == nullptr || !qemu->is_object()) return "QEMU not examined or not usable";
  const bool shim = find(*qemu, "/shim") != nullptr && *find(*qemu, "/shim") == true;
  return "QEMU " + text_at(*qemu, "/version") + " (" + text_at(*qemu, "/accel") +
         (shim ? " with shim)" : ")");
}

/// The length of the UTF-8 sequence that begins at `at`, 0 if it is broken or a control character.
std::size_t sequence_length(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const auto first = byte(at);
  if (first < 0x20 || first == 0x7f) return 0;
  if (first < 0x80) return 1;
  const std::size_t length = first >= 0xf0 && first < 0xf5   ? 4
                             : first >= 0xe0 && first < 0xf0 ? 3
                             : first >= 0xc2 && first < 0xe0 ? 2
                                                             : 0;
  if (length == 0 || at + length > text.size()) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xc0) != 0x80) return 0;
  }
  // C1 control characters (U+0080 to U+009F) begin an escape on some terminals.
  if (first == 0xc2 && byte(at + 1) < 0xa0) return 0;
  return length;
}

}  // namespace

std::string format_bytes(std::uint64_t bytes) {
  constexpr std::array units{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  // 999.5 would be rounded to four digits.
  while (value >= 999.5 && unit + 1 < units.size()) {
    value /= 1024;
    ++unit;
  }
  return decimals(value, unit > 0 && value < 9.95 ? 1 : 0) + " " + units[unit];
}

std::string format_milliseconds(double milliseconds) {
  if (!std::isfinite(milliseconds) || milliseconds < 0) return nothing;
  if (milliseconds < 0.995) return decimals(milliseconds, 2) + " ms";
  if (milliseconds < 9.95) return decimals(milliseconds, 1) + " ms";
  if (milliseconds < 999.5) return decimals(milliseconds, 0) + " ms";
  return decimals(milliseconds / 1000, 1) + " s";
}

std::string format_number(double value, int digits) {
  if (!std::isfinite(value)) return nothing;
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.*g", digits, value);
  return text.data();
}

std::string format_share(double share) {
  if (!std::isfinite(share)) return nothing;
  return decimals(100 * std::clamp(share, 0.0, 1.0), 1) + " %";
}

std::string format_time(double unix_seconds) {
  // The year 9999 ends there; what is later is no time of an event.
  if (!std::isfinite(unix_seconds) || unix_seconds < 0 || unix_seconds > 253402300799.0) {
    return nothing;
  }
  const auto milliseconds = static_cast<std::int64_t>(std::floor(unix_seconds * 1000 + 0.5));
  const auto seconds = static_cast<std::time_t>(milliseconds / 1000);
  std::tm parts{};
  ::localtime_r(&seconds, &parts);
  std::array<char, 32> text{};
  const auto length = std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S", &parts);
  std::snprintf(text.data() + length, text.size() - length, ".%03d",
                static_cast<int>(milliseconds % 1000));
  return text.data();
}

std::string printable(std::string_view text) {
  std::string clean;
  for (std::size_t at = 0; at < text.size();) {
    const auto length = sequence_length(text, at);
    clean += length == 0 ? std::string_view("?") : text.substr(at, length);
    at += std::max<std::size_t>(length, 1);
  }
  return clean;
}

std::size_t width(std::string_view text) noexcept {
  return static_cast<std::size_t>(std::ranges::count_if(
      text, [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

std::string truncate(std::string_view text, std::size_t columns) {
  if (width(text) <= columns) return std::string(text);
  if (columns == 0) return {};
  std::string kept;
  std::size_t used = 0;
  for (const char c : text) {
    const bool begins = (static_cast<unsigned char>(c) & 0xc0) != 0x80;
    if (begins && ++used == columns) break;
    kept += c;
  }
  return kept + "…";
}

Table::Table(std::vector<std::string> heading) {
  rows_.push_back(std::move(heading));
}

void Table::add(std::vector<std::string> row) {
  row.resize(rows_.front().size());
  rows_.push_back(std::move(row));
}

std::vector<std::string> Table::lines() const {
  std::vector<std::size_t> widths(rows_.front().size());
  for (const auto& row : rows_) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width(row[i]));
  }
  std::vector<std::string> lines;
  for (const auto& row : rows_) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      line += row[i] + std::string(widths[i] - width(row[i]) + 2, ' ');
    }
    line.erase(line.find_last_not_of(' ') + 1);
    lines.push_back(std::move(line));
  }
  return lines;
}

std::vector<std::string> status_lines(const json& status) {
  std::vector<std::string> lines{text_at(status, "/host") + ": tandem " +
                                 text_at(status, "/version") + ", " + qemu_of(status)};
  const auto& vms = vms_of(status);
  if (vms.empty()) {
    lines.push_back("no VM is defined or running on this host");
    return lines;
  }
  Table table({"VM", "ROLE", "STATE", "POLICY", "MODE", "PEER", "GENERATION", "CHECKPOINTS",
               "PAUSE mean / p99", "STOPPED", "RATIO / bound", "HELD", "LAST ERROR"});
  for (const auto& vm : vms) {
    table.add({text_at(vm, "/name"), text_at(vm, "/role"), text_at(vm, "/state"), policy(vm),
               mode(vm), text_at(vm, "/peer"), text_at(vm, "/generation"), checkpoints(vm),
               pauses(vm), stopped(vm), downtime(vm), held_frames(vm), text_at(vm, "/last_error")});
  }
  lines.emplace_back();
  std::ranges::move(table.lines(), std::back_inserter(lines));
  return lines;
}

std::vector<std::string> vm_lines(const json& vm) {
  std::vector<std::pair<std::string, std::string>> facts;
  const auto fact = [&](std::string name, std::string value) {
    facts.emplace_back(std::move(name), std::move(value));
  };
  const bool is_protected = find(vm, "/protected") != nullptr && *find(vm, "/protected") == true;
  fact("VM", text_at(vm, "/name"));
  fact("role", text_at(vm, "/role"));
  fact("state", text_at(vm, "/state") + (is_protected ? "" : " (not protected)"));
  fact("peer", text_at(vm, "/peer"));
  fact("generation", text_at(vm, "/generation"));
  fact("QEMU", text_at(vm, "/qemu_pid") == nothing ? nothing : "pid " + text_at(vm, "/qemu_pid"));
  if (is_in_pair(vm)) {
    fact("policy", text_at(vm, "/policy"));
    fact("mode", text_at(vm, "/mode"));
    if (has_controller(vm)) {
      fact("controller", text_at(vm, "/controller/state") + ", " +
                             text_at(vm, "/controller/reason") + "; downtime ratio " +
                             figure(vm, "downtime_ratio") +
                             (figure(vm, "downtime_ratio_bound") == nothing
                                  ? ""
                                  : ", its bound " + figure(vm, "downtime_ratio_bound")) +
                             "; " + figure(vm, "checkpoints_per_second") +
                             " checkpoints per second; changes of mode: " +
                             text_at(vm, "/controller/mode_changes"));
    }
    fact("checkpoints", "last " + text_at(vm, "/checkpoints/last") + ", committed " +
                            text_at(vm, "/checkpoints/committed") + ", loaded " +
                            text_at(vm, "/checkpoints/loaded") + ", in flight " +
                            text_at(vm, "/checkpoints/in_flight"));
    fact("checkpoint data", bytes_at(vm, "/dirty_bytes") + " of pages, " +
                                bytes_at(vm, "/wire_bytes") + " on the lanes, largest " +
                                bytes_at(vm, "/checkpoint_bytes_largest"));
    fact("held output", text_at(vm, "/gate/held_frames") + " frames (" +
                            bytes_at(vm, "/gate/held_bytes") + "); released " +
                            text_at(vm, "/gate/released_frames") + ", dropped " +
                            text_at(vm, "/gate/dropped_frames"));
    fact("VM stopped here", stopped(vm) + " of the time");
    if (has_to_do_with_colo(vm)) {
      fact("compared output", "released " + text_at(vm, "/compare/released_frames") +
                                  " frames, split " + text_at(vm, "/compare/split_frames") +
                                  ", left to commits " + text_at(vm, "/compare/committed_frames") +
                                  ", dropped " + text_at(vm, "/compare/dropped_frames") + "; " +
                                  bytes_at(vm, "/compare/compared_bytes") + " equal");
      fact("waiting output", text_at(vm, "/compare/waiting_frames") + " frames (" +
                                 bytes_at(vm, "/compare/waiting_bytes") + " of both VMs) in " +
                                 text_at(vm, "/compare/flows") + " flows");
      fact("mismatches", mismatches(vm));
      for (auto& flow : mismatch_flows(vm)) fact("", std::move(flow));
      fact("input", "mirrored " + text_at(vm, "/input/mirrored_frames") + " frames, fed " +
                        text_at(vm, "/input/fed_frames") + ", stale " +
                        text_at(vm, "/input/stale_frames") + ", dropped " +
                        text_at(vm, "/input/dropped_frames"));
    }
  }
  if (number_or(vm, "/translations", 0) > 0) {
    fact("translated connections", text_at(vm, "/translations"));
  }
  if (has_pauses(vm)) {
    fact("pauses", text_at(vm, "/pause_ms/count") + ": mean " +
                       milliseconds_at(vm, "/pause_ms/mean") + ", median " +
                       milliseconds_at(vm, "/pause_ms/p50") + ", p99 " +
                       milliseconds_at(vm, "/pause_ms/p99") + ", longest " +
                       milliseconds_at(vm, "/pause_ms/max"));
  }
  if (const auto* failover = find(vm, "/failover"); failover != nullptr && failover->is_object()) {
    fact("last failover", milliseconds_at(*failover, "/total_ms") + " (detection " +
                              milliseconds_at(*failover, "/detection_ms") + ", decision " +
                              milliseconds_at(*failover, "/decision_ms") + ", load " +
                              milliseconds_at(*failover, "/load_ms") + ", running " +
                              milliseconds_at(*failover, "/running_ms") +
                              "): " + text_at(*failover, "/reason"));
  }
  fact("last error", text_at(vm, "/last_error"));
  std::size_t widest = 0;
  for (const auto& [name, value] : facts) widest = std::max(widest, width(name));
  std::vector<std::string> lines;
  for (const auto& [name, value] : facts) {
    lines.push_back(name + std::string(widest - width(name) + 2, ' ') + value);
  }
  return lines;
}

std::vector<std::string> vm_list_lines(const json& status) {
  Table table({"VM", "ROLE", "STATE"});
  for (const auto& vm : vms_of(status)) {
    table.add({text_at(vm, "/name"), text_at(vm, "/role"), text_at(vm, "/state")});
  }
  return table.lines();
}

std::string vm_summary(const json& vm) {
  std::string line =
      text_at(vm, "/name") + " " + text_at(vm, "/role") + " " + text_at(vm, "/state");
  if (text_at(vm, "/peer") != nothing) line += " peer " + text_at(vm, "/peer");
  if (is_in_pair(vm)) {
    line += " policy " + policy(vm) + " mode " + mode(vm) + " checkpoints " + checkpoints(vm) +
            " pause " + pauses(vm) + " stopped " + stopped(vm) + " held " + held_frames(vm);
  }
  if (text_at(vm, "/last_error") != nothing) line += " last error: " + text_at(vm, "/last_error");
  return line;
}

std::string event_line(const json& event) {
  const auto vm = text_at(event, "/vm");
  return format_time(number_or(event, "/time", -1)) + "  " + vm + "  " + text_at(event, "/type") +
         "  " + text_at(event, "/message");
}

json error_json(const Error& error) {
  return {{"error", {{"code", to_string(error.code)}, {"message", error.message}}}};
}

std::string dump(const json& value, int indent) {
  return value.dump(indent, ' ', false, json::error_handler_t::replace);
}

}  // namespace tandem::cli
