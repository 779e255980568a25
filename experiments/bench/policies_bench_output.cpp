#include "experiments/bench/policies_bench_output.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <iomanip>
#include <map>
#include <sstream>

namespace tandem::bench {
namespace {

std::ostringstream stream() {
  std::ostringstream out;
  out << std::fixed << std::setprecision(3);
  return out;
}

double rounded(double value) {
  return std::round(value * 1e6) / 1e6;
}

nlohmann::json or_null(const std::optional<double>& value) {
  return value ? nlohmann::json(rounded(*value)) : nlohmann::json();
}

nlohmann::json to_json(const Part& part) {
  return {{"seconds", rounded(part.seconds)},
          {"stopped_ms", rounded(part.stopped_ms)},
          {"stopped_ratio", rounded(part.stopped_ratio())},
          {"checkpoints", part.checkpoints},
          {"mismatches", part.mismatches},
          {"colo_share", rounded(part.colo_share())},
          {"replies", part.latencies.replies},
          {"latency_mean_ms", rounded(part.latencies.mean_ms)},
          {"latency_p50_ms", rounded(part.latencies.p50_ms)},
          {"latency_p99_ms", rounded(part.latencies.p99_ms)},
          {"latency_max_ms", rounded(part.latencies.max_ms)}};
}

nlohmann::json to_json(const MeasuredPhase& phase) {
  auto json = to_json(phase.part);
  json["replies_are"] = to_string(phase.span.replies);
  json["from_s"] = rounded(phase.span.from_s);
  json["to_s"] = rounded(phase.span.to_s);
  if (phase.span.replies == Replies::deterministic) {
    json["back_in_colo_s"] = or_null(phase.back_s);
    return json;
  }
  json["stays"] = nlohmann::json::array();
  for (const auto& stay : phase.stays)
    json["stays"].push_back({{"from_s", rounded(stay.from_s)},
                             {"to_s", rounded(stay.to_s)},
                             {"checkpoints", stay.checkpoints}});
  return json;
}

nlohmann::json to_json(const PolicyRun& run) {
  nlohmann::json json{{"policy", run.policy},
                      {"repeat", run.repeat},
                      {"position", run.position},
                      {"others_cpu", rounded(run.others_cpu)},
                      {"problem", run.problem ? nlohmann::json(*run.problem) : nlohmann::json()}};
  json["modes"] = nlohmann::json::array();
  for (const auto& change : run.modes)
    json["modes"].push_back({{"at_s", rounded(change.at_s)},
                             {"mode", change.mode},
                             {"checkpoint", change.checkpoint},
                             {"reason", change.reason},
                             {"figures", change.figures}});
  if (run.problem) return json;
  const auto measured = measure(run);
  json["all"] = to_json(measured.all);
  json["deterministic"] = to_json(measured.deterministic);
  json["random"] = to_json(measured.random);
  json["phases"] = nlohmann::json::array();
  for (const auto& phase : measured.phases) json["phases"].push_back(to_json(phase));
  return json;
}

/// Inside double quotes a quote is written twice.
std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (const char c : text) result += c == '"' ? std::string("\"\"") : std::string(1, c);
  return result + "\"";
}

/// "name=value name=value"
std::string figures_text(const nlohmann::json& figures) {
  std::ostringstream out;
  const char* between = "";
  if (!figures.is_object()) return {};
  for (const auto& [name, value] : figures.items()) {
    out << between << name << "=" << value.dump();
    between = " ";
  }
  return out.str();
}

std::string stays_text(const std::vector<Stay>& stays) {
  std::ostringstream out;
  const char* between = "";
  for (const auto& stay : stays) {
    out << between << stay.checkpoints;
    between = " ";
  }
  return out.str();
}

struct Second {
  int second = 0;
  Latencies latencies;
};

std::vector<Second> by_second(const PolicyRun& run) {
  std::map<int, std::vector<survival::Account::Latency>> groups;
  for (const auto& latency : run.latencies) {
    const auto due_s = std::chrono::duration<double>(latency.asked - run.begin).count();
    groups[static_cast<int>(std::floor(due_s))].push_back(latency);
  }
  std::vector<Second> seconds;
  for (const auto& [second, latencies] : groups) {
    const auto from = run.begin + std::chrono::seconds(second) - std::chrono::milliseconds(1);
    seconds.push_back({second, summarise(latencies, from, from + std::chrono::seconds(2))});
  }
  return seconds;
}

// ---- the table

std::string cell(const std::vector<double>& values, int decimals) {
  const auto all = spread(values);
  if (!all) return "";
  std::ostringstream out;
  out << std::fixed << std::setprecision(decimals) << all->median;
  if (values.size() > 1) out << " (" << all->least << "–" << all->greatest << ")";
  return out.str();
}

using Number = std::function<std::optional<double>(const MeasuredRun&)>;

struct Column {
  const char* name;
  int decimals;
  Number number;
};

/// The last of a run's times back, by its worst phase; nothing if one phase never saw it.
std::optional<double> worst_back(const MeasuredRun& run) {
  double worst = 0;
  for (const auto& phase : run.phases) {
    if (phase.span.replies == Replies::random) continue;
    if (!phase.back_s) return std::nullopt;
    worst = std::max(worst, *phase.back_s);
  }
  return worst;
}

const std::vector<Column>& columns() {
  static const std::vector<Column> all{
      {"stopped, %", 2, [](const MeasuredRun& run) { return 100 * run.all.stopped_ratio(); }},
      {"… deterministic", 2,
       [](const MeasuredRun& run) { return 100 * run.deterministic.stopped_ratio(); }},
      {"… random", 2, [](const MeasuredRun& run) { return 100 * run.random.stopped_ratio(); }},
      {"reply p50, ms, deterministic", 1,
       [](const MeasuredRun& run) { return run.deterministic.latencies.p50_ms; }},
      {"p99", 1, [](const MeasuredRun& run) { return run.deterministic.latencies.p99_ms; }},
      {"reply p50, ms, random", 1,
       [](const MeasuredRun& run) { return run.random.latencies.p50_ms; }},
      {"p99", 1, [](const MeasuredRun& run) { return run.random.latencies.p99_ms; }},
      {"reply p50, ms, all", 1, [](const MeasuredRun& run) { return run.all.latencies.p50_ms; }},
      {"p99", 1, [](const MeasuredRun& run) { return run.all.latencies.p99_ms; }},
      {"checkpoints", 0,
       [](const MeasuredRun& run) { return static_cast<double>(run.all.checkpoints); }},
      {"differences", 0,
       [](const MeasuredRun& run) { return static_cast<double>(run.all.mismatches); }},
      {"in COLO mode, %, deterministic", 0,
       [](const MeasuredRun& run) { return 100 * run.deterministic.colo_share(); }},
      {"… random", 0, [](const MeasuredRun& run) { return 100 * run.random.colo_share(); }},
      {"back in COLO mode, s, slowest", 1, worst_back}};
  return all;
}

// ---- the plots

constexpr double kStripHeight = 1.6;
constexpr const char* kColours[] = {"#1b6ca8", "#c25b12", "#3f7d2d",
                                    "#7d3c98", "#8a6d00", "#555555"};

std::string colour(std::size_t index) {
  return kColours[index % std::size(kColours)];
}

void shade(std::ostream& out, const Schedule& schedule) {
  int number = 0;
  for (const auto& span : schedule.spans())
    if (span.replies == Replies::random)
      out << "set object " << ++number << " rectangle from " << span.from_s << ", graph 0 to "
          << span.to_s << ", graph 1 behind fillcolor rgb '#f4dfcf' fillstyle solid noborder\n";
}

/// Mode over time as a step line above `base`.
void mode_data(std::ostream& out, const PolicyRun& run, double base) {
  const auto& schedule = run.schedule;
  double level = 0;
  std::vector<std::pair<double, double>> changes;
  for (const auto& change : run.modes) {
    const double next = change.mode == "colo" ? 1 : 0;
    if (change.at_s <= -schedule.lead_s) {
      level = next;
    } else if (change.at_s < schedule.counted_s()) {
      changes.emplace_back(change.at_s, next);
    }
  }
  out << -schedule.lead_s << " " << base + level << "\n";
  for (const auto& [at_s, next] : changes) {
    out << at_s << " " << base + next << "\n";
    level = next;
  }
  out << schedule.counted_s() << " " << base + level << "\ne\n";
}

}  // namespace

nlohmann::json to_json(const PoliciesSetting& setting, std::span<const PolicyRun> runs) {
  nlohmann::json json{{"qemu", {{"version", setting.qemu_version}, {"accel", setting.accelerator}}},
                      {"processors", setting.processors},
                      {"requests_per_second", rounded(setting.rate)},
                      {"pages_per_request", setting.pages},
                      {"lead_s", rounded(setting.schedule.lead_s)},
                      {"phase_s", rounded(setting.schedule.phase_s)},
                      {"cycles", setting.schedule.cycles},
                      {"repeats", setting.repeats},
                      {"policies", setting.policies}};
  json["runs"] = nlohmann::json::array();
  for (const auto& run : runs) json["runs"].push_back(to_json(run));
  json["verdicts"] = nlohmann::json::array();
  for (const auto& verdict : verdicts(runs))
    json["verdicts"].push_back({{"statement", verdict.statement},
                                {"outcome", to_string(verdict.outcome)},
                                {"evidence", verdict.evidence}});
  return json;
}

std::string summary_csv(std::span<const PolicyRun> runs) {
  auto out = stream();
  out << "policy,repeat,position,part,replies_are,seconds,stopped_ms,stopped_ratio,replies,mean_ms,"
         "p50_ms,p99_ms,max_ms,checkpoints,mismatches,colo_share,back_in_colo_s,stays_"
         "checkpoints\n";
  for (const auto& run : runs) {
    if (run.problem) continue;
    const auto row = [&](const std::string& name, std::string_view replies, const Part& part) {
      const auto& latencies = part.latencies;
      out << run.policy << "," << run.repeat << "," << run.position << "," << name << "," << replies
          << "," << part.seconds << "," << part.stopped_ms << "," << std::setprecision(6)
          << part.stopped_ratio() << std::setprecision(3) << "," << latencies.replies << ","
          << latencies.mean_ms << "," << latencies.p50_ms << "," << latencies.p99_ms << ","
          << latencies.max_ms << "," << part.checkpoints << "," << part.mismatches << ","
          << part.colo_share();
    };
    const auto measured = measure(run);
    row("all", "", measured.all);
    out << ",,\n";
    row("deterministic", "deterministic", measured.deterministic);
    out << ",,\n";
    row("random", "random", measured.random);
    out << ",,\n";
    for (std::size_t i = 0; i < measured.phases.size(); ++i) {
      const auto& phase = measured.phases[i];
      row(std::to_string(i + 1), to_string(phase.span.replies), phase.part);
      out << ",";
      if (phase.back_s) out << *phase.back_s;
      out << "," << stays_text(phase.stays) << "\n";
    }
  }
  return out.str();
}

std::string modes_csv(std::span<const PolicyRun> runs) {
  auto out = stream();
  out << "policy,repeat,at_s,mode,checkpoint,reason,figures\n";
  for (const auto& run : runs)
    for (const auto& change : run.modes)
      out << run.policy << "," << run.repeat << "," << change.at_s << "," << change.mode << ","
          << change.checkpoint << "," << change.reason << ","
          << quoted(figures_text(change.figures)) << "\n";
  return out.str();
}

std::string latency_csv(std::span<const PolicyRun> runs) {
  auto out = stream();
  out << "policy,repeat,second,replies,p50_ms,p99_ms,max_ms\n";
  for (const auto& run : runs)
    for (const auto& [second, latencies] : by_second(run))
      out << run.policy << "," << run.repeat << "," << second << "," << latencies.replies << ","
          << latencies.p50_ms << "," << latencies.p99_ms << "," << latencies.max_ms << "\n";
  return out.str();
}

std::string table_markdown(const PoliciesSetting& setting, std::span<const PolicyRun> runs) {
  std::ostringstream out, line;
  out << "| policy | repeats |";
  line << "|---|---|";
  for (const auto& column : columns()) {
    out << " " << column.name << " |";
    line << "---|";
  }
  out << " stays in periodic mode, checkpoints, by random phase |\n" << line.str() << "---|\n";
  for (const auto& policy : setting.policies) {
    std::vector<MeasuredRun> measured;
    std::string stays;
    for (const auto& run : runs) {
      if (run.policy != policy || run.problem) continue;
      measured.push_back(measure(run));
      for (const auto& phase : measured.back().phases)
        if (phase.span.replies == Replies::random && !phase.stays.empty())
          stays += (stays.empty() ? "" : "; ") + stays_text(phase.stays);
    }
    out << "| " << policy << " | " << measured.size() << " |";
    for (const auto& column : columns()) {
      std::vector<double> values;
      for (const auto& run : measured)
        if (const auto value = column.number(run)) values.push_back(*value);
      const bool complete = values.size() == measured.size();
      out << " " << (complete ? cell(values, column.decimals) : "never") << " |";
    }
    out << " " << stays << " |\n";
  }
  return out.str();
}

std::string to_text(const std::vector<Verdict>& verdicts) {
  std::ostringstream out;
  for (const auto& verdict : verdicts) {
    out << std::left << std::setw(10) << to_string(verdict.outcome) << verdict.statement;
    if (!verdict.evidence.empty()) out << ": " << verdict.evidence;
    out << "\n";
  }
  return out.str();
}

std::string gnuplot_script(std::span<const PolicyRun> runs, const std::string& policy,
                           const std::string& svg) {
  std::vector<const PolicyRun*> drawn;
  for (const auto& run : runs)
    if (run.policy == policy && !run.problem) drawn.push_back(&run);
  if (drawn.empty()) return {};
  const auto& schedule = drawn.front()->schedule;
  const auto count = static_cast<double>(drawn.size());
  auto out = stream();
  out << "set terminal svg size 1000," << 330 + 70 * drawn.size()
      << " background rgb 'white' font 'sans-serif,13'\n"
      << "set output '" << svg << "'\n"
      << "set multiplot\n"
      << "set xrange [" << -schedule.lead_s << ":" << schedule.counted_s() << "]\n"
      << "set lmargin 14\nset rmargin 3\nset tics nomirror\nunset key\n";
  shade(out, schedule);
  const double split = 230 / (330 + 70 * count);
  out << "set origin 0," << split << "\nset size 1," << 1 - split << "\n"
      << "set title '" << policy << ": mode (replies differ where it is shaded)'\n"
      << "set yrange [-0.3:" << kStripHeight * count - 0.3 << "]\n"
      << "set ytics (";
  for (std::size_t i = 0; i < drawn.size(); ++i) {
    const double base = kStripHeight * (count - 1 - static_cast<double>(i));
    out << (i > 0 ? ", " : "") << "'periodic' " << base << ", 'colo' " << base + 1;
  }
  out << ")\nset format x ''\nplot ";
  for (std::size_t i = 0; i < drawn.size(); ++i)
    out << (i > 0 ? ", " : "") << "'-' with steps linewidth 2 linecolor rgb '" << colour(i) << "'";
  out << "\n";
  for (std::size_t i = 0; i < drawn.size(); ++i)
    mode_data(out, *drawn[i], kStripHeight * (count - 1 - static_cast<double>(i)));
  out << "set origin 0,0\nset size 1," << split << "\n"
      << "set title 'median reply latency of each second, ms'\n"
      << "set logscale y\nset yrange [0.5:2000]\nset ytics (1, 10, 100, 1000)\n"
      << "set format x '%g'\nset xlabel 'seconds'\nplot ";
  for (std::size_t i = 0; i < drawn.size(); ++i)
    out << (i > 0 ? ", " : "") << "'-' with lines linecolor rgb '" << colour(i) << "'";
  out << "\n";
  for (const auto* run : drawn) {
    for (const auto& [second, latencies] : by_second(*run))
      out << second + 0.5 << " " << latencies.p50_ms << "\n";
    out << "e\n";
  }
  out << "unset multiplot\n";
  return out.str();
}

}  // namespace tandem::bench
