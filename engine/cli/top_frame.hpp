// What `tandem top` shows, as text with styles: a pure function of what is known and of how it is
// looked at.
#pragma once

#include <array>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "engine/cli/output.hpp"
#include "engine/cli/top_model.hpp"

namespace tandem::cli {

enum class TopColumn { name, mode, ratio, pause, dirty, wire, differences, held };
inline constexpr std::array top_sort_columns{
    TopColumn::name,  TopColumn::mode, TopColumn::ratio,       TopColumn::pause,
    TopColumn::dirty, TopColumn::wire, TopColumn::differences, TopColumn::held};
std::string_view to_string(TopColumn column) noexcept;

/// How it is looked at.
struct TopView {
  TerminalSize size;
  bool utf8 = true;
  TopColumn sort = TopColumn::name;  ///< names upwards, the largest numbers first
  bool reversed = false;
  std::size_t first = 0;  ///< the VM at the top
  bool all = false;       ///< however many rows that takes, and without a line about keys
};

struct Span {
  enum class Style { plain, title, heading, dim, warning, error, periodic, colo };
  std::string text;
  Style style = Style::plain;
  friend bool operator==(const Span&, const Span&) = default;
};
using Line = std::vector<Span>;
/// Never more rows than the view has, never wider than it.
using Frame = std::vector<Line>;

/// `now`: Unix seconds.
Frame render_top(const TopModel& model, const TopView& view, double now);

/// Without styles.
std::vector<std::string> to_lines(const Frame& frame);

/// Names, in the order of the frame, of the VMs that the view has room for.
std::vector<std::string> visible_vms(const TopModel& model, const TopView& view);

/// How many VMs a view shows at a time, and the last value of `first` that makes sense.
std::size_t page_length(const TopView& view);
std::size_t last_first(const TopModel& model, const TopView& view);

/// What the frame of all VMs shows, with what is not known as null.
nlohmann::json top_json(const TopModel& model, const TopView& view, double now);

}  // namespace tandem::cli
