#include "experiments/simulation/timeline.hpp"

#include <algorithm>
#include <deque>

#include "experiments/simulation/report.hpp"

namespace tandem::simulation {

std::vector<Moment> timeline(const Scenario& scenario, controller::Policy policy,
                             const Setting& setting, std::uint64_t seed) {
  std::vector<Moment> moments;
  const auto window_s = setting.parameters.window_s;
  std::deque<std::pair<double, double>> sent;  // when, and how many MB
  Moment now;
  const auto seconds = setting.minutes * 60;
  bool colo = false, colo_since = false;
  // Between two checkpoints all is as it was after the first of them.
  const auto until = [&](double time_s) {
    for (auto next_s = static_cast<double>(moments.size()); next_s < std::min(time_s, seconds);
         ++next_s) {
      now.time_s = next_s;
      std::erase_if(sent, [&](const auto& one) { return one.first < next_s - window_s; });
      double mb = 0;
      for (const auto& one : sent) mb += one.second;
      now.mb_per_s = mb / std::clamp(next_s, 1.0, window_s);
      now.colo = colo_since;
      colo_since = colo;
      moments.push_back(now);
    }
  };
  const controller::Controller controller(policy, setting.parameters);
  colo = colo_since = controller.last().mode == controller::Mode::colo;
  run(scenario.workload, seed, seconds, controller,
      [&](const Checkpoint& checkpoint, const controller::Controller& present) {
        until(checkpoint.time_s);
        sent.emplace_back(checkpoint.time_s, checkpoint.mb);
        colo = checkpoint.begins == controller::Mode::colo;
        colo_since = colo_since || colo;
        now.downtime_ratio = present.window().downtime_ratio();
        const auto figures = present.figures();
        const auto bound =
            std::ranges::find(figures, "downtime_ratio_bound", &controller::Figure::name);
        if (bound != figures.end()) now.bound = bound->value;
      });
  until(seconds);
  return moments;
}

std::string timeline_csv(const std::vector<Moment>& moments) {
  std::string text = "time_s,colo,mb_per_s,downtime_ratio,bound\n";
  for (const auto& moment : moments) {
    text += number(moment.time_s, 0) + "," + (moment.colo ? "1" : "0") + "," +
            number(moment.mb_per_s, 3) + "," + number(moment.downtime_ratio, 6) + "," +
            (moment.bound < 0 ? "" : number(moment.bound, 6)) + "\n";
  }
  return text;
}

std::string gnuplot_script(const std::string& title, const std::string& csv, const std::string& svg,
                           bool bound) {
  const auto data = "plot '" + csv + "' every ::1 using 1:";
  std::string text =
      "set terminal svg size 1000,560 background rgb 'white' font 'sans-serif,13'\n"
      "set output '" +
      svg +
      "'\nset datafile separator ','\nset datafile missing ''\nset multiplot layout 3,1 title '" +
      title + "'\nset lmargin 12\nset rmargin 3\nset tics nomirror\nset xrange [0:]\nunset key\n";
  text += "set ylabel 'mode'\nset yrange [-0.2:1.2]\nset ytics ('periodic' 0, 'colo' 1)\n" + data +
          "2 with steps linecolor rgb '#1f4e79'\n";
  text += "set ylabel 'MB/s'\nset yrange [0:*]\nset ytics auto\n" + data +
          "3 with lines linecolor rgb '#2e7d32'\n";
  text += "set ylabel 'downtime ratio'\nset yrange [0:*]\nset xlabel 'seconds'\n" + data +
          "4 with lines linecolor rgb '#b03030'";
  if (bound) text += ", '" + csv + "' every ::1 using 1:5 with lines linecolor rgb '#888888'";
  return text + "\nunset multiplot\n";
}

}  // namespace tandem::simulation
