// The arithmetic of the pause benchmark, without I/O: from QEMU's events and traces to the numbers
// of a row, its verdict, its JSON and its line in the table.
#pragma once

#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::bench {

/// QEMU stamps its events and its traces with this clock.
using Time = std::chrono::system_clock::time_point;

/// A VM's STOP or RESUME event.
struct RunChange {
  bool runs = false;  ///< RESUME
  Time at;
};

/// A span of time, its end not included.
struct Window {
  Time from, to;
};

/// Lengths of the pauses that began in the window and have ended, in milliseconds.
std::vector<double> pauses_ms(const std::vector<RunChange>& changes, const Window& window);

/// For how many seconds of the window the VM stood still. Before its first change it ran if that is
/// a STOP.
double stopped_seconds(const std::vector<RunChange>& changes, const Window& window);

/// One line of QEMU's trace point migration_bitmap_sync_end: once a checkpoint QEMU collects the
/// pages that were written since the one before, and shows a running total.
struct BitmapSync {
  Time at;
  std::uint64_t total_pages = 0;
};

/// All such lines in QEMU's standard error; every other line is passed over.
std::vector<BitmapSync> parse_bitmap_syncs(std::string_view log);

/// Pages written before each sync in the window. QEMU sets its total to zero after a sync that
/// comes more than a second after the last time it did so (migration_bitmap_sync(),
/// migration/ram.c).
std::vector<double> dirty_pages(const std::vector<BitmapSync>& syncs, const Window& window);

/// The smallest value that at least the share `q` (0 to 1) of the values does not exceed; 0 for
/// none.
double quantile(std::vector<double> values, double q);
double mean(const std::vector<double>& values);

/// What was seen of one pair in one or several visits.
struct Samples {
  std::vector<double> pauses_ms;
  std::vector<double> dirty_pages;
  double seconds = 0;
  double svm_stopped_seconds = 0;
  std::optional<std::uint64_t> stream_bytes;  ///< sent to the other host; unknown on a unix socket
  double others_cpu_seconds = 0;  ///< processor time that this machine spent on something else

  void add(const Samples& more);
};

struct Summary {
  std::size_t checkpoints = 0;
  double mean_ms = 0, p50_ms = 0, p99_ms = 0, max_ms = 0;
  double dirty_mib = 0;  ///< median of a checkpoint, what the idle guest writes included
  double idle_mib = 0;   ///< what the guest writes on its own
  double seconds = 0;
  double svm_stopped_ratio = 0;
  std::optional<std::uint64_t> stream_bytes;
  double others_cpu = 0;  ///< processors that others kept busy, on average
};

Summary summarise(const Samples& samples, double idle_mib);

struct Row {
  double mib = 0;
  std::string link;
  /// The link cannot carry this much in a period: each checkpoint is asked for a period after the
  /// VM has resumed, for both.
  bool paced = false;
  Summary stock_tcp;
  std::optional<Summary> stock_unix;
  Summary tandem;

  /// The stock variant with the smaller mean pause.
  [[nodiscard]] const Summary& stock() const;
  [[nodiscard]] std::string stock_variant() const;
};

/// How far the memory written per checkpoint may be from what was asked for.
inline constexpr double kDirtyTolerance = 0.15;
/// Fewer pauses than this say nothing.
inline constexpr std::size_t kPausesMin = 8;

/// What makes a row worthless; empty if it is sound.
std::vector<std::string> problems(const Row& row);
/// The ratio that SPECIFICATION.md promises for this row, if it promises one, held against it.
std::vector<std::string> broken_promises(const Row& row);

/// Bytes a second of a rate as tc writes it: "1gbit", "100mbit", "500kbit"; nothing for other text.
std::optional<double> link_rate(std::string_view text);

/// Whether `mib` a period leave the link less than a quarter of the period for anything else.
bool needs_pacing(double mib, std::optional<double> bytes_a_second,
                  std::chrono::milliseconds period);

nlohmann::json to_json(const Summary& summary);
nlohmann::json to_json(const Row& row);

/// The table's head (two lines) and a row's line, without line ends.
std::string table_head();
std::string table_line(const Row& row);

}  // namespace tandem::bench
