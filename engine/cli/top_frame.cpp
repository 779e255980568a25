#include "engine/cli/top_frame.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/cli/format.hpp"
#include "engine/cli/sparkline.hpp"

namespace tandem::cli {
namespace {

using nlohmann::json;
using Style = Span::Style;
using Cell = TopHistory::Cell;

constexpr std::size_t rows_per_vm = 2;
constexpr std::size_t heading_rows = 3;  // the title, and two rows of headings
constexpr std::size_t footer_rows = 1;
// Columns, with the space behind them.
constexpr std::size_t name_min = 13;
constexpr std::size_t name_max = 33;
constexpr std::size_t role_width = 10;
constexpr std::size_t policy_width = 10;
constexpr std::size_t figures_min = 13;  // of three groups
constexpr std::size_t figures_max = 61;
constexpr std::size_t counts_width = 8;

/// Without characters that a terminal without UTF-8 does not have.
std::string plain(std::string_view text) {
  std::string clean;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80) clean += c;
    if (byte >= 0xc0) clean += '?';  // for the bytes that follow it, too
  }
  return clean;
}

/// A text in so many columns, cut or filled up.
std::string left(std::string_view text, std::size_t columns, bool utf8) {
  constexpr std::string_view mark = "…";
  const bool is_cut = width(text) > columns;
  auto cut = truncate(text, columns);
  if (is_cut && !utf8 && columns > 0) cut.replace(cut.size() - mark.size(), mark.size(), "+");
  return cut + std::string(columns - width(cut), ' ');
}

std::string right(std::string_view text, std::size_t columns) {
  const auto used = width(text);
  return used >= columns ? truncate(text, columns)
                         : std::string(columns - used, ' ') + std::string(text);
}

std::string decimals(double value, int count) {
  char text[32];
  std::snprintf(text, sizeof text, "%.*f", count, value);
  return text;
}

// Numbers in at most five columns.

std::string ratio_text(const std::optional<double>& value) {
  if (!value || !std::isfinite(*value)) return "-";
  if (*value < 9.9995) return decimals(*value, 3);
  return decimals(*value, *value < 99.95 ? 1 : 0);
}

std::string pause_text(const std::optional<double>& ms) {
  if (!ms || !(*ms >= 0)) return "-";
  if (*ms < 99.95) return decimals(*ms, 1);
  return *ms < 99'999.5 ? decimals(*ms, 0) : "> 99s";
}

std::string bytes_text(const std::optional<double>& bytes) {
  if (!bytes || !(*bytes >= 0)) return "-";
  auto value = *bytes;
  std::size_t unit = 0;
  constexpr std::string_view units = " KMGTPE";
  // 999.5 would be rounded to four digits.
  while (value >= 999.5 && unit + 1 < units.size()) {
    value /= 1024;
    ++unit;
  }
  if (unit == 0) return decimals(value, 0);
  return decimals(value, value < 9.95 ? 1 : 0) + units[unit];
}

std::string count_text(const std::optional<std::uint64_t>& value) {
  if (!value) return "-";
  return *value < 10'000'000 ? std::to_string(*value) : std::to_string(*value / 1'000'000) + "M";
}

std::optional<double> as_double(const std::optional<std::uint64_t>& value) {
  if (!value) return std::nullopt;
  return static_cast<double>(*value);
}

/// What a VM is sorted by where that is a number; what is not known is the least.
double sort_value(const TopVm& vm, TopColumn column) {
  constexpr double least = -1;
  switch (column) {
    case TopColumn::mode:
      return vm.mode == "colo" ? 2 : vm.mode.empty() ? least : 1;
    case TopColumn::ratio:
      return vm.downtime_ratio.value_or(least);
    case TopColumn::pause:
      return vm.pause_mean_ms.value_or(least);
    case TopColumn::dirty:
      return vm.dirty_bytes_per_s.value_or(least);
    case TopColumn::wire:
      return vm.wire_bytes_per_s.value_or(least);
    case TopColumn::differences:
      return as_double(vm.mismatches).value_or(least);
    case TopColumn::held:
      return as_double(vm.held_bytes).value_or(least);
    case TopColumn::name:
      break;
  }
  return 0;
}

std::vector<const TopVm*> sorted_vms(const TopModel& model, const TopView& view) {
  auto vms = model.vms();  // by name
  if (view.sort != TopColumn::name) {
    std::ranges::stable_sort(vms, std::greater(),
                             [&](const TopVm* vm) { return sort_value(*vm, view.sort); });
  }
  if (view.reversed) std::ranges::reverse(vms);
  return vms;
}

/// How wide the columns are that grow with the terminal.
struct Layout {
  std::size_t name = name_min, figures = figures_min;

  Layout(const std::vector<const TopVm*>& vms, std::size_t columns) {
    std::size_t longest = 0;
    for (const auto* vm : vms) longest = std::max({longest, width(vm->name), width(vm->peer) + 3});
    const auto fixed = role_width + policy_width + counts_width;
    auto more = columns - std::min(columns, name_min + fixed + 3 * figures_min);
    const auto for_name = std::min(more, std::clamp(longest + 1, name_min, name_max) - name_min);
    name += for_name;
    more -= for_name;
    figures = std::min(figures_max, figures_min + more / 3);
  }
};

/// Two numbers side by side, the first over the begin of what is drawn below.
std::string pair_text(const std::string& first, const std::string& second, std::size_t columns,
                      bool utf8) {
  return left(right(first, 5) + " " + right(second, 6), columns, utf8);
}

/// One VM, in two rows.
class Row {
 public:
  Row(const TopVm& vm, const Layout& layout, const TopView& view, double now)
      : vm_(vm), layout_(layout), view_(view) {
    is_primary_ = vm.role == "primary";
    // A column more than is drawn is the gap before the next group.
    if (is_primary_) cells_ = vm.history.cells(now, layout.figures - 1);
    if (is_primary_) modes_ = vm.history.cells(now, policy_width - 1);
  }

  [[nodiscard]] Line numbers() const {
    return {{text(vm_.name, layout_.name), Style::title},
            {text(vm_.role, role_width)},
            {text(vm_.policy.empty() ? "-" : vm_.policy, policy_width)},
            {pair(ratio_text(vm_.downtime_ratio), ratio_text(vm_.downtime_ratio_bound))},
            {pair(pause_text(vm_.pause_last_ms), pause_text(vm_.pause_mean_ms))},
            {pair(bytes_text(vm_.dirty_bytes_per_s), bytes_text(vm_.wire_bytes_per_s))},
            {right(count_text(vm_.mismatches), counts_width - 1)}};
  }

  [[nodiscard]] Line drawings() const {
    const auto peer = vm_.peer.empty() ? std::string() : (view_.utf8 ? " → " : " > ") + vm_.peer;
    Line line{{text(peer, layout_.name), Style::dim}, mode()};
    if (!is_primary_ || !vm_.is_protected) {
      line.push_back({remark(), vm_.role == "secondary" ? Style::dim : Style::warning});
      return line;
    }
    add_modes(line);
    add_drawing(line, &Cell::downtime_ratio);
    add_drawing(line, &Cell::pause_ms);
    add_drawing(line, &Cell::bytes_per_s);
    line.push_back({right(bytes_text(as_double(vm_.held_bytes)), counts_width - 1)});
    return line;
  }

 private:
  [[nodiscard]] std::string text(std::string_view what, std::size_t columns) const {
    return left(what, columns - 1, view_.utf8) + " ";
  }
  [[nodiscard]] std::string pair(const std::string& first, const std::string& second) const {
    return pair_text(first, second, layout_.figures, view_.utf8);
  }

  [[nodiscard]] Span mode() const {
    const auto style = vm_.mode == "colo"       ? Style::colo
                       : vm_.mode == "periodic" ? Style::periodic
                                                : Style::dim;
    return {text(vm_.mode.empty() ? "-" : vm_.mode, role_width), style};
  }

  /// Instead of drawings.
  [[nodiscard]] std::string remark() const {
    if (vm_.role == "secondary" && vm_.is_protected) {
      return "the VM runs on " + vm_.peer + ", and so does its controller";
    }
    std::string remark = vm_.state;
    if (vm_.role == "solo") remark += ", alone and unprotected";
    if (vm_.role == "none" && vm_.state == "running") remark += ", unprotected";
    if (!vm_.last_error.empty()) remark += ": " + vm_.last_error;
    return remark;
  }

  void add_drawing(Line& line, double Cell::*value) const {
    std::vector<double> values;
    for (const auto& cell : cells_) values.push_back(cell.*value);
    line.push_back({sparkline(values, view_.utf8) + " "});
  }

  /// The modes over time, each in its colour.
  void add_modes(Line& line) const {
    for (const auto& cell : modes_) {
      Span span{" ", Style::plain};
      if (cell.mode == Cell::Mode::colo) span = {view_.utf8 ? "█" : "c", Style::colo};
      if (cell.mode == Cell::Mode::periodic) span = {view_.utf8 ? "▄" : "p", Style::periodic};
      if (line.back().style == span.style) {
        line.back().text += span.text;
      } else {
        line.push_back(std::move(span));
      }
    }
    line.push_back({" "});
  }

  const TopVm& vm_;
  const Layout& layout_;
  const TopView& view_;
  bool is_primary_ = false;
  std::vector<Cell> cells_, modes_;
};

/// "12:34:56"
std::string clock_text(double now) {
  const auto time = format_time(now);
  return time.size() < 19 ? time : time.substr(11, 8);
}

std::string title(const TopModel& model, std::size_t vms, std::size_t are_protected, double now) {
  return "tandem top on " + model.host() + ", " + clock_text(now) + ": " + std::to_string(vms) +
         (vms == 1 ? " VM, " : " VMs, ") + std::to_string(are_protected) + " protected";
}

void add_headings(Frame& frame, const Layout& layout, const TopView& view) {
  const auto pair = [&](const char* first, const char* second) {
    return pair_text(first, second, layout.figures, view.utf8);
  };
  const auto text = [&](const char* what, std::size_t columns) {
    return left(what, columns, view.utf8);
  };
  frame.push_back(
      {{text("VM", layout.name) + text("ROLE", role_width) + text("POLICY", policy_width) +
            pair("RATIO", "BOUND") + pair("LAST", "MEAN") + pair("DIRTY", "WIRE") +
            right("DIFFS", counts_width - 1),
        Style::heading}});
  frame.push_back(
      {{text("   PEER", layout.name) + text("MODE", role_width) + text("3 minutes", policy_width) +
            text("downtime", layout.figures) + text("pause, ms", layout.figures) +
            text("bytes/s", layout.figures) + right("HELD", counts_width - 1),
        Style::heading}});
}

std::string footer(const TopView& view, std::size_t vms) {
  const auto shown = std::min(page_length(view), vms - std::min(vms, view.first));
  std::string text = "q quit  ";
  if (shown < vms) {
    text += std::string(view.utf8 ? "↑↓" : "up/down") + " " + std::to_string(view.first + 1) + "-" +
            std::to_string(view.first + shown) + " of " + std::to_string(vms) + "  ";
  }
  return text + "< > sort: " + std::string(to_string(view.sort)) +
         (view.reversed ? ", reversed" : "") + "  r reverse";
}

/// Cuts what does not fit.
void fit(Line& line, std::size_t columns, bool utf8) {
  for (auto span = line.begin(); span != line.end(); ++span) {
    const auto used = width(span->text);
    if (used > columns) {
      span->text.erase(span->text.find_last_not_of(' ') + 1);
      span->text = left(span->text, columns, utf8);
      line.erase(span + 1, line.end());
      return;
    }
    columns -= used;
  }
}

}  // namespace

std::string_view to_string(TopColumn column) noexcept {
  switch (column) {
    case TopColumn::name:
      return "name";
    case TopColumn::mode:
      return "mode";
    case TopColumn::ratio:
      return "ratio";
    case TopColumn::pause:
      return "pause";
    case TopColumn::dirty:
      return "dirty";
    case TopColumn::wire:
      return "wire";
    case TopColumn::differences:
      return "differences";
    case TopColumn::held:
      return "held";
  }
  return "unknown";
}

std::size_t page_length(const TopView& view) {
  if (view.all) return std::numeric_limits<std::size_t>::max() / rows_per_vm;
  const auto taken = heading_rows + footer_rows;
  return view.size.rows <= taken ? 0 : (view.size.rows - taken) / rows_per_vm;
}

std::size_t last_first(const TopModel& model, const TopView& view) {
  const auto vms = model.vms().size();
  return vms - std::min(vms, page_length(view));
}

std::vector<std::string> visible_vms(const TopModel& model, const TopView& view) {
  const auto vms = sorted_vms(model, view);
  std::vector<std::string> names;
  for (std::size_t i = view.first; i < vms.size() && names.size() < page_length(view); ++i) {
    names.push_back(vms[i]->name);
  }
  return names;
}

Frame render_top(const TopModel& model, const TopView& view, double now) {
  const auto vms = sorted_vms(model, view);
  const Layout layout(vms, view.size.columns);
  const auto are_protected = std::ranges::count_if(vms, &TopVm::is_protected);
  Frame frame;
  if (model.problem().empty()) {
    frame.push_back(
        {{title(model, vms.size(), static_cast<std::size_t>(are_protected), now), Style::title}});
  } else {
    frame.push_back({{printable(model.problem()), Style::error}});
  }
  add_headings(frame, layout, view);
  const auto end = std::min(vms.size() - std::min(vms.size(), view.first), page_length(view));
  for (std::size_t i = 0; i < end; ++i) {
    const Row row(*vms[view.first + i], layout, view, now);
    frame.push_back(row.numbers());
    frame.push_back(row.drawings());
  }
  if (vms.empty()) frame.push_back({{"no VM is defined or running on this host", Style::dim}});
  if (!view.all) {
    if (view.size.rows > footer_rows) frame.resize(view.size.rows - footer_rows);
    frame.push_back({{footer(view, vms.size()), Style::heading}});
    frame.resize(view.size.rows);
  }
  for (auto& line : frame) {
    if (!view.utf8) {
      for (auto& span : line) span.text = plain(span.text);
    }
    fit(line, view.size.columns, view.utf8);
  }
  return frame;
}

std::vector<std::string> to_lines(const Frame& frame) {
  std::vector<std::string> lines;
  for (const auto& line : frame) {
    std::string text;
    for (const auto& span : line) text += span.text;
    text.erase(text.find_last_not_of(' ') + 1);
    lines.push_back(std::move(text));
  }
  return lines;
}

json top_json(const TopModel& model, const TopView& view, double now) {
  const auto known = [](const auto& value) { return value ? json(*value) : json(); };
  const auto named = [](const std::string& text) { return text.empty() ? json() : json(text); };
  constexpr std::size_t cells_count = 36;
  auto list = json::array();
  for (const auto* pointer : sorted_vms(model, view)) {
    const auto& vm = *pointer;
    auto ratios = json::array();
    auto pauses = json::array();
    auto bytes = json::array();
    auto modes = json::array();
    for (const auto& cell : vm.history.cells(now, cells_count)) {
      const bool is_known = cell.mode != Cell::Mode::unknown;
      ratios.push_back(is_known ? json(cell.downtime_ratio) : json());
      pauses.push_back(is_known ? json(cell.pause_ms) : json());
      bytes.push_back(is_known ? json(cell.bytes_per_s) : json());
      modes.push_back(!is_known ? json() : cell.mode == Cell::Mode::colo ? "colo" : "periodic");
    }
    list.push_back({{"name", vm.name},
                    {"role", vm.role},
                    {"state", vm.state},
                    {"protected", vm.is_protected},
                    {"peer", named(vm.peer)},
                    {"policy", named(vm.policy)},
                    {"mode", named(vm.mode)},
                    {"downtime_ratio", known(vm.downtime_ratio)},
                    {"downtime_ratio_bound", known(vm.downtime_ratio_bound)},
                    {"pause_last_ms", known(vm.pause_last_ms)},
                    {"pause_mean_ms", known(vm.pause_mean_ms)},
                    {"dirty_bytes_per_s", known(vm.dirty_bytes_per_s)},
                    {"wire_bytes_per_s", known(vm.wire_bytes_per_s)},
                    {"mismatch_checkpoints", known(vm.mismatches)},
                    {"held_frames", known(vm.held_frames)},
                    {"held_bytes", known(vm.held_bytes)},
                    {"history",
                     {{"seconds", TopHistory::seconds},
                      {"downtime_ratio", std::move(ratios)},
                      {"pause_ms", std::move(pauses)},
                      {"bytes_per_s", std::move(bytes)},
                      {"mode", std::move(modes)}}}});
  }
  return {{"host", model.host()},
          {"time", now},
          {"problem", named(model.problem())},
          {"vms", std::move(list)}};
}

}  // namespace tandem::cli
