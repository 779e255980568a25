// `tandem top`: what it remembers, what it asks for, and what a frame looks like.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "engine/cli/format.hpp"
#include "engine/cli/sparkline.hpp"
#include "engine/cli/top_frame.hpp"
#include "tests/unit/top_fixture.hpp"

namespace tandem::cli {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using Cell = TopHistory::Cell;
using Style = Span::Style;

/// 2026-03-01 12:34:56.5 UTC
constexpr double now = 1772368496.5;

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const auto& line : lines) text += line + "\n";
  return text;
}

class CliTop : public testing::Test {
 protected:
  CliTop() {
    ::setenv("TZ", "UTC", 1);
    ::tzset();
  }
};

// ---- sparklines

TEST_F(CliTop, ASparklineGoesFromNothingToItsLargest) {
  const std::vector<double> values{0, 1, 2, 3, 4, 5, 6, 7};
  EXPECT_EQ(sparkline(values, true), "▁▂▃▄▅▆▇█");
  EXPECT_EQ(sparkline(values, false), "_.-:=+*#");
}

TEST_F(CliTop, ASparklineLeavesOutWhatIsNotKnown) {
  const std::vector<double> values{-1, 5, NAN, 0, INFINITY};
  EXPECT_EQ(sparkline(values, true), " █ ▁█");
  EXPECT_EQ(sparkline(std::vector<double>{0, 0}, true), "▁▁");
  EXPECT_EQ(sparkline({}, true), "");
}

// ---- history

TEST_F(CliTop, ACycleIsSpreadOverItsSeconds) {
  TopHistory history;
  // From 97.5 to 99.5: half of a second, one, and half.
  history.add({.time = 99.5, .pause_s = 0.5, .uptime_s = 1.5, .bytes = 800, .downtime_ratio = 0.3});
  const auto cells = history.cells(99.9, 180);
  ASSERT_EQ(cells.size(), 180u);
  const Cell expected{0.3, 500, 400, Cell::Mode::periodic};
  EXPECT_EQ(cells[179], expected) << "of the newest second, only a half was observed";
  EXPECT_EQ(cells[178], expected);
  EXPECT_EQ(cells[177], expected);
  EXPECT_EQ(cells[176], Cell{});
}

TEST_F(CliTop, ACellHasTheLargestOfItsTimeAndTheModeOfMost) {
  TopHistory history;
  const auto add = [&](double time, double pause_s, double ratio, bool colo) {
    history.add({.time = time,
                 .pause_s = pause_s,
                 .uptime_s = 1 - pause_s,
                 .bytes = 100,
                 .downtime_ratio = ratio,
                 .colo = colo});
  };
  add(171, 0.1, 0.2, true);
  add(172, 0.3, 0.1, true);
  add(173, 0.2, 0.1, false);
  const auto cells = history.cells(179, 18);  // ten seconds each: the last is from 170 on
  EXPECT_EQ(cells.back().downtime_ratio, 0.2);
  EXPECT_DOUBLE_EQ(cells.back().pause_ms, 300);
  EXPECT_EQ(cells.back().mode, Cell::Mode::colo);
}

TEST_F(CliTop, CellsStayWhereTheyAreWhileTimeGoesOn) {
  TopHistory history;
  for (int i = 0; i < 100; ++i) {
    history.add({.time = 1000.0 + i, .uptime_s = 1, .bytes = 100.0 * i, .downtime_ratio = i * 1.0});
  }
  const auto before = history.cells(1100.0, 18);
  const auto same = history.cells(1109.9, 18);
  const auto later = history.cells(1110.0, 18);
  EXPECT_EQ(same, before);
  EXPECT_EQ(later[16], before[17]);
  EXPECT_EQ(later[5], before[6]);
}

TEST_F(CliTop, WhatIsOldIsForgottenAndItsPlaceUsedAgain) {
  TopHistory history;
  history.add({.time = 1000, .uptime_s = 1, .bytes = 100});
  EXPECT_EQ(history.cells(1300, 18), std::vector<Cell>(18));
  history.add({.time = 1000 + 2 * TopHistory::seconds, .uptime_s = 1, .bytes = 50});
  history.add({.time = 1000, .uptime_s = 1, .bytes = 100});
  const auto cells = history.cells(1000 + 2 * TopHistory::seconds, 180);
  EXPECT_EQ(std::ranges::count(cells, Cell{}), 178);
}

TEST_F(CliTop, NumbersThatMakeNoSenseAreLeftOut) {
  TopHistory history;
  for (const double bad : {-1.0, 1e300, std::nan(""), double{INFINITY}}) {
    history.add({.time = bad, .uptime_s = 1});
    history.add({.time = 1000, .pause_s = bad});
    history.add({.time = 1000, .uptime_s = bad});
    history.add({.time = 1000, .bytes = bad});
    history.add({.time = 1000, .downtime_ratio = bad});
    EXPECT_EQ(history.cells(bad, 18), std::vector<Cell>(18));
  }
  EXPECT_EQ(history.cells(1000, 18), std::vector<Cell>(18));
  EXPECT_TRUE(history.cells(1000, 0).empty());
  // A cycle that is longer than all that is remembered.
  history.add({.time = 1000, .uptime_s = 1e9, .bytes = 1e9});
  EXPECT_EQ(std::ranges::count(history.cells(1000, 18), Cell{}), 0);
}

// ---- model

json records(int count, std::uint64_t first = 1) {
  auto list = json::array();
  for (int i = 0; i < count; ++i) {
    const bool colo = i % 60 < 30;
    list.push_back(test::top_record(first + static_cast<std::uint64_t>(i), now - count + i, colo,
                                    0.005 + 0.004 * std::sin(i / 10.0),
                                    0.02 + 0.01 * std::sin(i / 20.0),
                                    static_cast<std::uint64_t>(1000 + i * 100)));
  }
  return list;
}

const TopVm& vm_of(const TopModel& model, const std::string& name) {
  for (const auto* vm : model.vms()) {
    if (vm->name == name) return *vm;
  }
  throw std::out_of_range(name);
}

TEST_F(CliTop, RatesAreOverTheLastSeconds) {
  TopModel model;
  auto vm = test::top_vm("web");
  const auto look = [&](double at, std::uint64_t dirty, std::uint64_t wire) {
    vm["dirty_bytes"] = dirty;
    vm["wire_bytes"] = wire;
    model.look(test::top_status({vm}), at);
  };
  look(100, 1000, 5000);
  EXPECT_EQ(vm_of(model, "web").dirty_bytes_per_s, std::nullopt) << "one look is no rate";
  look(102, 3000, 5000);
  EXPECT_EQ(vm_of(model, "web").dirty_bytes_per_s, 1000);
  EXPECT_EQ(vm_of(model, "web").wire_bytes_per_s, 0);
  for (int i = 0; i < 20; ++i) look(104 + 2 * i, 3000, 5000);
  EXPECT_EQ(vm_of(model, "web").dirty_bytes_per_s, 0) << "what is long ago does not count";
}

TEST_F(CliTop, CountersThatBeginAnewAreNoRate) {
  TopModel model;
  auto vm = test::top_vm("web");
  model.look(test::top_status({vm}), 100);
  vm["generation"] = 2;
  model.look(test::top_status({vm}), 102);
  EXPECT_EQ(vm_of(model, "web").dirty_bytes_per_s, std::nullopt);
  vm["dirty_bytes"] = 5;
  model.look(test::top_status({vm}), 104);
  EXPECT_EQ(vm_of(model, "web").dirty_bytes_per_s, std::nullopt);
  vm["dirty_bytes"] = 25;
  model.look(test::top_status({vm}), 106);
  EXPECT_EQ(vm_of(model, "web").dirty_bytes_per_s, 10);
}

TEST_F(CliTop, OnlyWhatIsNewAndSeenIsAskedFor) {
  TopModel model;
  auto web = test::top_vm("web", 40);
  auto db = test::top_vm("db", 1000);
  auto fresh = test::top_vm("fresh", 0);
  auto copy = test::top_vm("copy");
  copy["controller"] = nullptr;
  const auto look = [&] { model.look(test::top_status({web, db, fresh, copy}), now); };
  const auto asked = [&](const std::vector<std::string>* visible) {
    std::vector<std::pair<std::string, std::uint64_t>> list;
    for (const auto& question : model.questions(visible)) {
      list.emplace_back(question.vm, question.after);
    }
    return list;
  };
  using Pair = std::pair<std::string, std::uint64_t>;
  look();
  EXPECT_THAT(asked(nullptr), ElementsAre(Pair("db", 280), Pair("web", 0)))
      << "of a long past, the newest part";
  const std::vector<std::string> visible{"web"};
  EXPECT_THAT(asked(&visible), ElementsAre(Pair("web", 0)));
  EXPECT_FALSE(model.take({"web", 0}, test::top_answer(records(40))));
  EXPECT_THAT(asked(&visible), ElementsAre());
  web["controller"]["decisions"] = 41;
  look();
  EXPECT_THAT(asked(&visible), ElementsAre(Pair("web", 40)));
  // Another pair numbers its records from 1.
  web["generation"] = 2;
  web["controller"]["decisions"] = 3;
  look();
  EXPECT_THAT(asked(&visible), ElementsAre(Pair("web", 0)));
}

TEST_F(CliTop, OfManyThatAreSeenAFewAreAskedInALookEachInTurn) {
  TopModel model;
  std::vector<std::string> visible;
  std::uint64_t decisions = 40;
  const auto look = [&] {
    auto vms = json::array();
    for (const auto& name : visible) vms.push_back(test::top_vm(name, decisions));
    model.look(test::top_status(vms), now);
    ++decisions;
    auto questions = model.questions(&visible);
    for (const auto& question : questions) model.take(question, test::top_answer(records(1)));
    return questions;
  };
  for (int i = 0; i < 25; ++i) visible.push_back("vm" + std::to_string(10 + i));
  EXPECT_EQ(look().size(), 25u) << "to begin with, all";
  std::map<std::string, int> asked;
  for (int i = 0; i < 5; ++i) {
    const auto questions = look();
    EXPECT_EQ(questions.size(), TopModel::updates_max);
    for (const auto& question : questions) ++asked[question.vm];
  }
  EXPECT_EQ(asked.size(), 25u);
  for (const auto& [name, times] : asked) EXPECT_EQ(times, 2) << name;
  EXPECT_EQ(model.questions(nullptr).size(), 15u) << "of all, whoever has something new";
}

TEST_F(CliTop, AFullAnswerMayNotBeTheLast) {
  TopModel model;
  model.look(test::top_status({test::top_vm("web", 700)}), now);
  EXPECT_TRUE(model.take({"web", 0}, test::top_answer(records(500))));
  EXPECT_FALSE(model.take({"web", 500}, test::top_answer(records(50, 501))));
  EXPECT_FALSE(model.take({"gone", 0}, test::top_answer(records(500))));
}

TEST_F(CliTop, AnotherWorkerIsAskedFromTheBeginning) {
  TopModel model;
  auto status = test::top_status({test::top_vm("web", 40)});
  model.look(status, now);
  model.take({"web", 0}, test::top_answer(records(40)));
  EXPECT_TRUE(model.questions(nullptr).empty());
  status["worker_pid"] = 8;
  model.look(status, now);
  ASSERT_EQ(model.questions(nullptr).size(), 1u);
  EXPECT_EQ(model.questions(nullptr)[0].after, 0u);
}

TEST_F(CliTop, ThePauseOfTheNewestRecordIsTheLast) {
  TopModel model;
  model.look(test::top_status({test::top_vm("web")}), now);
  auto answer = test::top_answer(records(3));
  answer["records"].push_back({{"seq", 4}, {"time", now}, {"change", {{"policy", "colo"}}}});
  model.take({"web", 0}, answer);
  EXPECT_NEAR(*vm_of(model, "web").pause_last_ms, 5 + 4 * std::sin(0.2), 1e-9);
  EXPECT_EQ(vm_of(model, "web").pause_mean_ms, 5.14);
}

TEST_F(CliTop, VmsThatAreNotWantedOrNoMoreAreNotShown) {
  TopModel model({"db", "nobody"});
  model.look(test::top_status({test::top_vm("web"), test::top_vm("db")}), now);
  ASSERT_EQ(model.vms().size(), 1u);
  EXPECT_EQ(model.vms()[0]->name, "db");
  EXPECT_EQ(model.missing(), "nobody");
  model.look(test::top_status(json::array()), now);
  EXPECT_TRUE(model.vms().empty());
}

// ---- frames

/// Four VMs, one of each kind.
TopModel a_model() {
  auto web = test::top_vm("web");
  auto db = test::top_vm("database-of-the-shop");
  db["policy"] = "periodic";
  db["mode"] = "periodic";
  db["controller"]["figures"].erase("downtime_ratio_bound");
  auto copy = test::top_vm("copy");
  copy["role"] = "secondary";
  copy["controller"] = nullptr;
  auto old = test::top_vm("old");
  for (const char* key : {"peer", "mode", "controller"}) old[key] = nullptr;
  old["role"] = "none";
  old["state"] = "stopped";
  old["protected"] = false;
  old["last_error"] = "beta is\nlost";
  TopModel model;
  model.look(test::top_status({web, db, copy, old}), now - 2);
  for (auto* vm : {&web, &db, &copy, &old}) {
    (*vm)["dirty_bytes"] = 1000000 + 7 * 1024 * 1024;
    (*vm)["wire_bytes"] = 2000000 + 900 * 1024;
  }
  web["dirty_bytes"] = 1000000;
  web["compare"]["mismatch_checkpoints"] = 123456;
  model.look(test::top_status({web, db, copy, old}), now);
  for (const auto& question : model.questions(nullptr)) {
    model.take(question, test::top_answer(records(120)));
  }
  return model;
}

TopView a_view(std::size_t columns = 80, std::size_t rows = 14) {
  TopView view;
  view.size = {columns, rows};
  return view;
}

TEST_F(CliTop, AFrameOfEightyColumnsHasEverything) {
  EXPECT_EQ(joined(to_lines(render_top(a_model(), a_view(), now))),
            R"(tandem top on alpha, 12:34:56: 4 VMs, 3 protected
VM           ROLE      POLICY    RATIO  BOUND  LAST   MEAN DIRTY   WIRE   DIFFS
   PEER      MODE      3 minutes downtime     pause, ms    bytes/s         HELD
copy         secondary hybrid        -      -     -      -  3.5M   450K       -
 → beta      colo      the VM runs on beta, and so does its controller
database-of… primary   periodic  0.021      -   2.5    5.1  3.5M   450K       7
 → beta      periodic    ██▄▄█▄▄    ▆███▇▆▄▄▅    ▆██▄▅██▅▃    ▂▂▃▄▅▆▆▇█     17K
old          none      -             -      -     -      -     -      -       -
             -         stopped: beta is?lost
web          primary   hybrid    0.021  0.100   2.5    5.1     0   450K  123456
 → beta      colo        ██▄▄█▄▄    ▆███▇▆▄▄▅    ▆██▄▅██▅▃    ▂▂▃▄▅▆▆▇█     17K


q quit  < > sort: name  r reverse
)");
}

TEST_F(CliTop, WithoutUtf8ItIsMadeOfPlainCharacters) {
  auto view = a_view();
  view.utf8 = false;
  auto model = a_model();
  model.miss("größe");
  const auto text = joined(to_lines(render_top(model, view, now)));
  EXPECT_THAT(text, testing::StartsWith("gr??e\n"));
  EXPECT_THAT(text, HasSubstr("\ndatabase-of+ primary   periodic"));
  EXPECT_THAT(text, HasSubstr("\n > beta      colo        ccppcpp    +###*+::=    +##:=##=-    "
                              "..-:=++*#     17K\n"));
  for (const char c : text) EXPECT_LT(static_cast<unsigned char>(c), 0x80);
}

TEST_F(CliTop, AWiderTerminalShowsLongerNamesAndMoreOfTheTime) {
  const auto lines = to_lines(render_top(a_model(), a_view(140), now));
  EXPECT_THAT(lines[5], testing::StartsWith("database-of-the-shop primary "));
  EXPECT_THAT(lines[6], HasSubstr(" ▆▇▇█████▇▇▆▅▅▄▄▃▄▄▅▅ "));
  std::size_t widest = 0;
  for (const auto& line : lines) widest = std::max(widest, width(line));
  EXPECT_GT(widest, 130u);
}

TEST_F(CliTop, AFrameFitsItsTerminalWhateverTheSize) {
  const auto model = a_model();
  for (std::size_t columns = 1; columns < 300; columns += 7) {
    for (const std::size_t rows : {1, 2, 3, 4, 5, 6, 7, 24, 100}) {
      for (const bool utf8 : {true, false}) {
        auto view = a_view(columns, rows);
        view.utf8 = utf8;
        const auto frame = render_top(model, view, now);
        EXPECT_EQ(frame.size(), rows);
        for (const auto& line : to_lines(frame)) ASSERT_LE(width(line), columns) << line;
      }
    }
  }
}

TEST_F(CliTop, WhatDoesNotFitIsScrolledTo) {
  auto vms = json::array();
  for (int i = 0; i < 50; ++i) vms.push_back(test::top_vm("vm" + std::to_string(10 + i)));
  TopModel model;
  model.look(test::top_status(vms), now);
  auto view = a_view(80, 24);
  EXPECT_EQ(page_length(view), 10u);
  EXPECT_EQ(last_first(model, view), 40u);
  view.first = 7;
  const auto lines = to_lines(render_top(model, view, now));
  EXPECT_THAT(lines[3], testing::StartsWith("vm17 "));
  EXPECT_THAT(lines[21], testing::StartsWith("vm26 "));
  EXPECT_EQ(lines[23], "q quit  ↑↓ 8-17 of 50  < > sort: name  r reverse");
  const auto visible = visible_vms(model, view);
  EXPECT_EQ(visible.size(), 10u);
  EXPECT_EQ(visible.front(), "vm17");
  view.first = 1000;
  EXPECT_EQ(render_top(model, view, now).size(), 24u) << "beyond the end there is nothing";
}

TEST_F(CliTop, ItIsSortedByWhatIsWanted) {
  auto quiet = test::top_vm("quiet");
  quiet["controller"]["figures"]["downtime_ratio"] = 0.001;
  auto busy = test::top_vm("busy");
  busy["controller"]["figures"]["downtime_ratio"] = 0.5;
  auto stopped = test::top_vm("stopped");
  stopped["controller"] = nullptr;
  TopModel model;
  model.look(test::top_status({quiet, busy, stopped}), now);
  auto view = a_view();
  EXPECT_THAT(visible_vms(model, view), ElementsAre("busy", "quiet", "stopped"));
  view.sort = TopColumn::ratio;
  EXPECT_THAT(visible_vms(model, view), ElementsAre("busy", "quiet", "stopped"))
      << "what is not known is the least";
  view.reversed = true;
  EXPECT_THAT(visible_vms(model, view), ElementsAre("stopped", "quiet", "busy"));
  EXPECT_THAT(to_lines(render_top(model, view, now)).back(), HasSubstr("sort: ratio, reversed"));
  for (const auto column : top_sort_columns) {
    view.sort = column;
    EXPECT_EQ(visible_vms(model, view).size(), 3u) << to_string(column);
  }
}

TEST_F(CliTop, ModesHaveColours) {
  const auto frame = render_top(a_model(), a_view(), now);
  const auto style_of = [&](std::size_t row, const std::string& text) {
    for (const auto& span : frame[row]) {
      if (span.text.find(text) != std::string::npos) return span.style;
    }
    ADD_FAILURE() << text << " is not in row " << row;
    return Style::plain;
  };
  EXPECT_EQ(style_of(6, "periodic"), Style::periodic);
  EXPECT_EQ(style_of(10, "colo"), Style::colo);
  EXPECT_EQ(style_of(10, "██"), Style::colo);
  EXPECT_EQ(style_of(10, "▄▄"), Style::periodic);
  EXPECT_EQ(style_of(8, "stopped"), Style::warning);
}

TEST_F(CliTop, ADaemonThatIsSilentIsNamedAndWhatWasKnownStays) {
  auto model = a_model();
  model.miss("nobody listens\x1b on the socket");
  const auto frame = render_top(model, a_view(), now);
  EXPECT_EQ(frame[0], Line({{"nobody listens? on the socket", Style::error}}));
  EXPECT_THAT(joined(to_lines(frame)), HasSubstr("\nweb "));
  model.look(test::top_status({test::top_vm("web")}), now);
  EXPECT_THAT(to_lines(render_top(model, a_view(), now))[0], HasSubstr("1 VM, 1 protected"));
}

TEST_F(CliTop, AHostWithoutVmsSaysSo) {
  TopModel model;
  model.look(test::top_status(json::array()), now);
  EXPECT_THAT(joined(to_lines(render_top(model, a_view(), now))),
              HasSubstr("no VM is defined or running on this host"));
}

TEST_F(CliTop, OneFrameOfAllHasEveryVmAndNoKeys) {
  auto vms = json::array();
  for (int i = 0; i < 50; ++i) vms.push_back(test::top_vm("vm" + std::to_string(10 + i)));
  TopModel model;
  model.look(test::top_status(vms), now);
  auto view = a_view();
  view.all = true;
  const auto text = joined(to_lines(render_top(model, view, now)));
  EXPECT_EQ(std::ranges::count(text, '\n'), 103);
  EXPECT_THAT(text, HasSubstr("\nvm59 "));
  EXPECT_THAT(text, Not(HasSubstr("quit")));
}

TEST_F(CliTop, InJsonItIsWhatAFrameShows) {
  const auto answer = top_json(a_model(), a_view(), now);
  EXPECT_EQ(answer["host"], "alpha");
  EXPECT_EQ(answer["time"], now);
  EXPECT_EQ(answer["problem"], json());
  ASSERT_EQ(answer["vms"].size(), 4u);
  const auto& old = answer["vms"][2];
  EXPECT_EQ(old["name"], "old");
  for (const char* unknown : {"peer", "policy", "mode", "downtime_ratio", "pause_last_ms",
                              "dirty_bytes_per_s", "held_bytes"}) {
    EXPECT_EQ(old[unknown], json()) << unknown;
  }
  const auto& web = answer["vms"][3];
  EXPECT_EQ(web["name"], "web");
  EXPECT_EQ(web["mode"], "colo");
  EXPECT_EQ(web["downtime_ratio"], 0.0213);
  EXPECT_EQ(web["downtime_ratio_bound"], 0.1);
  EXPECT_EQ(web["pause_mean_ms"], 5.14);
  EXPECT_EQ(web["wire_bytes_per_s"], 450 * 1024);
  EXPECT_EQ(web["mismatch_checkpoints"], 123456);
  EXPECT_EQ(web["held_frames"], 12);
  EXPECT_EQ(web["history"]["seconds"], 180);
  EXPECT_EQ(web["history"]["mode"][0], json());
  EXPECT_EQ(web["history"]["mode"][14], "colo");
  EXPECT_EQ(web["history"]["pause_ms"].size(), 36u);
}

TEST_F(CliTop, WhateverAnAnswerHoldsItIsShown) {
  const std::vector<json> strange{
      nullptr, true, -1, 1e308, 1u << 31, "\xff\x1b", json::array({1, "a"}), json{{"x", 1}}};
  const auto right = test::top_status({test::top_vm("web")});
  const auto flat = right.flatten();
  for (const auto& [path, value] : flat.items()) {
    for (const auto& other : strange) {
      auto status = right;
      status[json::json_pointer(path)] = other;
      TopModel model;
      model.look(right, now - 1);
      model.look(status, now);
      for (const auto& line : to_lines(render_top(model, a_view(), now))) {
        ASSERT_EQ(line, printable(line)) << path;
      }
      EXPECT_FALSE(dump(top_json(model, a_view(), now)).empty());
    }
  }
  const auto answer = test::top_answer(records(3));
  const auto flat_answer = answer.flatten();
  for (const auto& [path, value] : flat_answer.items()) {
    for (const auto& other : strange) {
      auto wrong = answer;
      wrong[json::json_pointer(path)] = other;
      TopModel model;
      model.look(right, now);
      model.take({"web", 0}, wrong);
      EXPECT_EQ(render_top(model, a_view(), now).size(), 14u);
    }
  }
  TopModel model;
  for (const auto& other : strange) model.look(other, now);
  EXPECT_EQ(render_top(model, a_view(), now).size(), 14u);
}

}  // namespace
}  // namespace tandem::cli
