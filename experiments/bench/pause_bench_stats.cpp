#include "experiments/bench/pause_bench_stats.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <iomanip>
#include <numeric>
#include <sstream>

namespace tandem::bench {
namespace {

constexpr double kPagesPerMib = 256;
constexpr std::chrono::milliseconds kTotalsPeriod{1000};

double seconds(std::chrono::system_clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

template <class T>
std::optional<T> leading_number(std::string_view& text) {
  T number{};
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (ec != std::errc{}) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return number;
}

// "1234@1700000000.123456:migration_bitmap_sync_end dirty_pages 9012"
std::optional<BitmapSync> parse_line(std::string_view line) {
  constexpr std::string_view name = ":migration_bitmap_sync_end dirty_pages ";
  const auto at = line.find('@');
  const auto event = line.find(name);
  if (at == std::string_view::npos || event == std::string_view::npos || event < at)
    return std::nullopt;
  auto stamp = line.substr(at + 1, event - at - 1);
  const auto whole = leading_number<std::int64_t>(stamp);
  if (!whole || !stamp.starts_with('.')) return std::nullopt;
  stamp.remove_prefix(1);
  const bool six_digits = stamp.size() == 6;
  const auto micros = leading_number<std::int64_t>(stamp);
  if (!six_digits || !micros || !stamp.empty()) return std::nullopt;
  auto rest = line.substr(event + name.size());
  const auto pages = leading_number<std::uint64_t>(rest);
  if (!pages) return std::nullopt;
  return BitmapSync{Time(std::chrono::seconds(*whole)) + std::chrono::microseconds(*micros),
                    *pages};
}

std::string fixed(double value, int decimals) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(decimals) << value;
  return text.str();
}

double ratio(double part, double whole) {
  return whole > 0 ? part / whole : 0;
}

void judge(const Row& row, const std::string& who, const Summary& summary,
           std::vector<std::string>& found) {
  const std::string where = fixed(row.mib, 0) + " MiB, " + row.link + ", " + who + ": ";
  if (summary.checkpoints < kPausesMin)
    found.push_back(where + "only " + std::to_string(summary.checkpoints) +
                    " checkpoints were seen, " + std::to_string(kPausesMin) + " are the least");
  const double written = summary.dirty_mib - summary.idle_mib;
  if (std::abs(written - row.mib) > kDirtyTolerance * row.mib)
    found.push_back(where + "the guest wrote " + fixed(written, 2) +
                    " MiB between two checkpoints (its own " + fixed(summary.idle_mib, 2) +
                    " MiB not counted), which is off by more than " +
                    fixed(kDirtyTolerance * 100, 0) + " %");
}

}  // namespace

std::vector<double> pauses_ms(const std::vector<RunChange>& changes, const Window& window) {
  std::vector<double> pauses;
  std::optional<Time> stopped;
  for (const auto& change : changes) {
    if (!change.runs) {
      if (!stopped) stopped = change.at;
    } else if (stopped) {
      if (*stopped >= window.from && *stopped < window.to)
        pauses.push_back(seconds(change.at - *stopped) * 1000);
      stopped.reset();
    }
  }
  return pauses;
}

double stopped_seconds(const std::vector<RunChange>& changes, const Window& window) {
  double total = 0;
  bool runs = changes.empty() || !changes.front().runs;
  auto since = window.from;
  for (const auto& change : changes) {
    const auto at = std::clamp(change.at, window.from, window.to);
    if (!runs) total += seconds(at - since);
    since = at;
    runs = change.runs;
  }
  if (!runs) total += seconds(window.to - since);
  return total;
}

std::vector<BitmapSync> parse_bitmap_syncs(std::string_view log) {
  std::vector<BitmapSync> syncs;
  while (!log.empty()) {
    const auto end = log.find('\n');
    // A line without an end is still being written.
    if (end == std::string_view::npos) break;
    if (const auto sync = parse_line(log.substr(0, end))) syncs.push_back(*sync);
    log.remove_prefix(end + 1);
  }
  return syncs;
}

std::vector<double> dirty_pages(const std::vector<BitmapSync>& syncs, const Window& window) {
  std::vector<double> pages;
  std::uint64_t before = 0;
  std::optional<Time> zeroed;
  for (const auto& sync : syncs) {
    if (!zeroed) zeroed = sync.at;
    // The clocks' grain leaves open whether a total that is a second old was zeroed; one that
    // shrank was.
    const auto written = sync.total_pages >= before ? sync.total_pages - before : sync.total_pages;
    if (sync.at >= window.from && sync.at < window.to)
      pages.push_back(static_cast<double>(written));
    before = sync.total_pages;
    if (sync.at - *zeroed > kTotalsPeriod) {
      zeroed = sync.at;
      before = 0;
    }
  }
  return pages;
}

double quantile(std::vector<double> values, double q) {
  if (values.empty()) return 0;
  std::ranges::sort(values);
  const double rank = std::ceil(q * static_cast<double>(values.size()));
  const auto index = static_cast<std::size_t>(std::max(rank, 1.0)) - 1;
  return values[std::min(index, values.size() - 1)];
}

double mean(const std::vector<double>& values) {
  if (values.empty()) return 0;
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

void Samples::add(const Samples& more) {
  pauses_ms.insert(pauses_ms.end(), more.pauses_ms.begin(), more.pauses_ms.end());
  dirty_pages.insert(dirty_pages.end(), more.dirty_pages.begin(), more.dirty_pages.end());
  if (more.stream_bytes) stream_bytes = stream_bytes.value_or(0) + *more.stream_bytes;
  seconds += more.seconds;
  svm_stopped_seconds += more.svm_stopped_seconds;
  others_cpu_seconds += more.others_cpu_seconds;
}

Summary summarise(const Samples& samples, double idle_mib) {
  Summary summary;
  summary.checkpoints = samples.pauses_ms.size();
  summary.mean_ms = mean(samples.pauses_ms);
  summary.p50_ms = quantile(samples.pauses_ms, 0.5);
  summary.p99_ms = quantile(samples.pauses_ms, 0.99);
  summary.max_ms = quantile(samples.pauses_ms, 1);
  // The median: a total whose zeroing cannot be told for certain is a rare outlier.
  summary.dirty_mib = quantile(samples.dirty_pages, 0.5) / kPagesPerMib;
  summary.idle_mib = idle_mib;
  summary.seconds = samples.seconds;
  summary.svm_stopped_ratio = ratio(samples.svm_stopped_seconds, samples.seconds);
  summary.stream_bytes = samples.stream_bytes;
  summary.others_cpu = ratio(samples.others_cpu_seconds, samples.seconds);
  return summary;
}

const Summary& Row::stock() const {
  return stock_unix && stock_unix->mean_ms < stock_tcp.mean_ms ? *stock_unix : stock_tcp;
}

std::string Row::stock_variant() const {
  return &stock() == &stock_tcp ? "tcp" : "unix";
}

std::vector<std::string> problems(const Row& row) {
  std::vector<std::string> found;
  judge(row, "stock over TCP", row.stock_tcp, found);
  if (row.stock_unix) judge(row, "stock over a unix socket", *row.stock_unix, found);
  judge(row, "tandem", row.tandem, found);
  return found;
}

std::vector<std::string> broken_promises(const Row& row) {
  struct Promise {
    double mib;
    std::string_view link;
    double ratio_max;
  };
  constexpr std::array promises{Promise{32, "unshaped", 0.7}, Promise{8, "1gbit", 0.25}};
  std::vector<std::string> broken;
  for (const auto& promise : promises) {
    if (row.mib != promise.mib || row.link != promise.link) continue;
    const auto measured = row.tandem.mean_ms / row.stock().mean_ms;
    if (measured <= promise.ratio_max) continue;
    broken.push_back(fixed(row.mib, 0) + " MiB, " + row.link + ": the pause is " +
                     fixed(measured, 2) + " of stock's; promised is at most " +
                     fixed(promise.ratio_max, 2));
  }
  return broken;
}

std::optional<double> link_rate(std::string_view text) {
  const auto number = leading_number<double>(text);
  if (!number || !std::isfinite(*number) || *number <= 0) return std::nullopt;
  double unit = 0;
  if (text == "gbit") unit = 1e9;
  if (text == "mbit") unit = 1e6;
  if (text == "kbit") unit = 1e3;
  if (unit == 0) return std::nullopt;
  return *number * unit / 8;
}

bool needs_pacing(double mib, std::optional<double> bytes_a_second,
                  std::chrono::milliseconds period) {
  if (!bytes_a_second) return false;
  const double transfer_seconds = mib * 1024 * 1024 / *bytes_a_second;
  return transfer_seconds > 0.75 * std::chrono::duration<double>(period).count();
}

nlohmann::json to_json(const Summary& summary) {
  nlohmann::json bytes;
  if (summary.stream_bytes) bytes = *summary.stream_bytes;
  return {{"checkpoints", summary.checkpoints},
          {"pause_mean_ms", summary.mean_ms},
          {"pause_p50_ms", summary.p50_ms},
          {"pause_p99_ms", summary.p99_ms},
          {"pause_max_ms", summary.max_ms},
          {"dirty_mib_per_checkpoint", summary.dirty_mib},
          {"idle_mib_per_checkpoint", summary.idle_mib},
          {"seconds", summary.seconds},
          {"svm_stopped_ratio", summary.svm_stopped_ratio},
          {"stream_bytes", bytes},
          {"others_cpu", summary.others_cpu}};
}

nlohmann::json to_json(const Row& row) {
  const auto& stock = row.stock();
  nlohmann::json variants = {{"tcp", to_json(row.stock_tcp)}};
  if (row.stock_unix) variants["unix"] = to_json(*row.stock_unix);
  const auto found = problems(row);
  return {{"mib", row.mib},
          {"link", row.link},
          {"paced", row.paced},
          {"ok", found.empty()},
          {"problems", found},
          {"stock", to_json(stock)},
          {"stock_variant", row.stock_variant()},
          {"stock_variants", variants},
          {"tandem", to_json(row.tandem)},
          {"ratio_mean", ratio(row.tandem.mean_ms, stock.mean_ms)},
          {"ratio_p50", ratio(row.tandem.p50_ms, stock.p50_ms)},
          {"ratio_p99", ratio(row.tandem.p99_ms, stock.p99_ms)}};
}

namespace {

std::string right(const std::string& text, std::size_t width) {
  return text.size() >= width ? text : std::string(width - text.size(), ' ') + text;
}

std::string pause_cell(const Summary& summary) {
  return right(fixed(summary.mean_ms, 1), 7) + right(fixed(summary.p50_ms, 1), 7) +
         right(fixed(summary.p99_ms, 1), 7) + right(std::to_string(summary.checkpoints), 5) +
         right(fixed(summary.dirty_mib, 1), 7) +
         right(fixed(summary.svm_stopped_ratio * 100, 1) + "%", 7);
}

constexpr std::size_t kCellWidth = 40;

}  // namespace

std::string table_head() {
  const auto centred = [](const std::string& text) {
    const std::size_t left = (kCellWidth - text.size()) / 2;
    return std::string(left, ' ') + text + std::string(kCellWidth - text.size() - left, ' ');
  };
  const std::string cell = "   mean    p50    p99    n    MiB   SVM-";
  return "   MiB link       |" + centred("stock over TCP") + " |" + centred("stock over unix") +
         " |" + centred("tandem") + " |  tandem / stock\n" + "                  |" + cell + " |" +
         cell + " |" + cell + " |  mean   p50   p99";
}

std::string table_line(const Row& row) {
  const auto& stock = row.stock();
  std::string line = right(fixed(row.mib, 0), 6) + " " + row.link + (row.paced ? "*" : "");
  if (line.size() < 18) line.append(18 - line.size(), ' ');
  line += "|" + pause_cell(row.stock_tcp) + " |" +
          (row.stock_unix ? pause_cell(*row.stock_unix) : right("-", kCellWidth)) + " |" +
          pause_cell(row.tandem) + " |";
  line += right(fixed(ratio(row.tandem.mean_ms, stock.mean_ms), 2), 6) +
          right(fixed(ratio(row.tandem.p50_ms, stock.p50_ms), 2), 6) +
          right(fixed(ratio(row.tandem.p99_ms, stock.p99_ms), 2), 6);
  if (!problems(row).empty()) line += "  FAILED";
  return line;
}

}  // namespace tandem::bench
