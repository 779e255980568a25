// What is said about the metrics elsewhere is true: docs/monitoring.md, Grafana's dashboard and
// Prometheus' rules name metrics and labels that tandemd exports.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdio.h>
#include <sys/wait.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>

#include "base/file.hpp"
#include "engine/metrics/exposition.hpp"
#include "tests/unit/full_sample.hpp"

namespace tandem::metrics {
namespace {

using nlohmann::json;
using prometheus::MetricType;
using testing::IsSupersetOf;

const std::filesystem::path source = TANDEM_SOURCE_DIR;

using Labels = std::set<std::string>;

std::string text_of(const std::filesystem::path& path) {
  const auto text = read_file(path);
  if (!text) ADD_FAILURE() << text.error().message;
  return text ? *text : "";
}

std::vector<prometheus::MetricFamily> exported() {
  const std::vector vms{full_sample("web")};
  return collect(full_host_sample(), vms);
}

Labels labels_of(const prometheus::MetricFamily& family) {
  Labels labels;
  for (const auto& label : family.metric.front().label) labels.insert(label.name);
  return labels;
}

/// Each name that a query may use, with its labels: those of tandemd, and those of Prometheus.
std::map<std::string, Labels> queryable() {
  std::map<std::string, Labels> names{{"up", {"instance", "job"}}};
  for (const auto& family : exported()) {
    auto labels = labels_of(family);
    labels.insert({"instance", "job"});
    if (family.type != MetricType::Histogram) {
      names[family.name] = labels;
      continue;
    }
    names[family.name + "_sum"] = names[family.name + "_count"] = labels;
    labels.insert("le");
    names[family.name + "_bucket"] = labels;
  }
  return names;
}

std::set<std::string> matches(const std::string& text, const std::string& expression) {
  std::set<std::string> found;
  const std::regex regex(expression);
  for (std::sregex_iterator at(text.begin(), text.end(), regex), end; at != end; ++at) {
    found.insert((*at)[1]);
  }
  return found;
}

std::set<std::string> words(const std::string& list) {
  return matches(list, "([A-Za-z_]+)");
}

/// Every metric of a PromQL expression is exported, with every label that is named.
void expect_answerable(const std::string& query) {
  static const auto known = queryable();
  const std::regex metric(R"((\b(?:tandem|process)_[a-z0-9_]+|\bup\b)(?:\{([^}]*)\})?)");
  std::size_t metrics = 0;
  Labels all;
  for (std::sregex_iterator at(query.begin(), query.end(), metric), end; at != end; ++at) {
    ++metrics;
    const auto found = known.find((*at)[1]);
    if (found == known.end()) {
      ADD_FAILURE() << (*at)[1] << " is not exported; in " << query;
      continue;
    }
    for (const auto& label : matches((*at)[2], R"(([a-z_]+)\s*(?:=|!|=~|!~)[=~]?")")) {
      EXPECT_TRUE(found->second.contains(label))
          << (*at)[1] << " has no label " << label << "; in " << query;
    }
    all.insert(found->second.begin(), found->second.end());
  }
  EXPECT_GT(metrics, 0u) << query;
  for (const auto& list : matches(query, R"(\b(?:by|on|group_left|label_values)\s*\(([^)]*)\))")) {
    if (known.contains(list.substr(0, list.find_first_of(",{")))) continue;  // label_values
    for (const auto& label : words(list))
      EXPECT_TRUE(all.contains(label)) << label << ": " << query;
  }
}

Labels all_labels() {
  Labels all;
  for (const auto& [name, labels] : queryable()) all.insert(labels.begin(), labels.end());
  return all;
}

/// Calls `visit` with each value of a member called `key`, at any depth.
void each(const json& value, const std::string& key,
          const std::function<void(const json&)>& visit) {
  if (value.is_object() && value.contains(key)) visit(value[key]);
  if (!value.is_structured()) return;
  for (const auto& part : value) each(part, key, visit);
}

TEST(Monitoring, TheDocumentListsEveryMetric) {
  const auto text = text_of(source / "docs/monitoring.md");
  std::set<std::string> documented;
  std::set<std::string> wanted;
  const std::regex row("\n\\| `([a-z_]+)` \\| (counter|gauge|histogram) \\| ([^|]*) \\|");
  for (std::sregex_iterator at(text.begin(), text.end(), row), end; at != end; ++at) {
    std::string line = (*at)[1].str() + " " + (*at)[2].str();
    for (const auto& label : words((*at)[3])) line += " " + label;
    documented.insert(line);
  }
  for (const auto& family : exported()) {
    std::string line = family.name;
    line += family.type == MetricType::Counter     ? " counter"
            : family.type == MetricType::Histogram ? " histogram"
                                                   : " gauge";
    for (const auto& label : labels_of(family)) line += " " + label;
    wanted.insert(line);
  }
  EXPECT_EQ(documented, wanted);
}

TEST(Monitoring, TheDashboardAsksForWhatIsExported) {
  const auto dashboard = json::parse(text_of(source / "packaging/grafana/tandem.json"));
  std::size_t queries = 0;
  each(dashboard, "expr", [&](const json& expr) {
    ++queries;
    expect_answerable(expr);
  });
  EXPECT_GT(queries, 30u);
  each(dashboard["templating"], "definition", [](const json& query) { expect_answerable(query); });
  each(dashboard, "legendFormat", [](const json& legend) {
    const auto used = matches(legend, R"(\{\{\s*([a-z_]+)\s*\}\})");
    EXPECT_THAT(all_labels(), IsSupersetOf(used)) << legend;
  });
}

TEST(Monitoring, TheDashboardAsksTheChosenSourceAboutTheChosenHostsAndVms) {
  const auto dashboard = json::parse(text_of(source / "packaging/grafana/tandem.json"));
  std::set<std::string> variables;
  for (const auto& variable : dashboard["templating"]["list"]) {
    variables.insert(variable["name"].get<std::string>());
  }
  EXPECT_EQ(variables, (std::set<std::string>{"datasource", "host", "vm"}));
  std::set<int> ids;
  for (const auto& panel : dashboard["panels"]) {
    EXPECT_TRUE(ids.insert(panel["id"].get<int>()).second) << panel["title"];
    if (panel["type"] == "row") continue;
    for (const auto& target : panel["targets"]) {
      EXPECT_EQ(target["datasource"]["uid"], "${datasource}") << panel["title"];
      const std::string expr = target["expr"];
      EXPECT_NE(expr.find("\"$host\""), std::string::npos) << expr;
      const bool of_vms = expr.find("tandem_vm_") != std::string::npos;
      EXPECT_EQ(of_vms, expr.find("\"$vm\"") != std::string::npos) << expr;
    }
  }
}

TEST(Monitoring, PanelsDoNotCoverEachOther) {
  const auto dashboard = json::parse(text_of(source / "packaging/grafana/tandem.json"));
  std::map<std::pair<int, int>, std::string> taken;
  for (const auto& panel : dashboard["panels"]) {
    const auto& at = panel["gridPos"];
    EXPECT_LE(at["x"].get<int>() + at["w"].get<int>(), 24) << panel["title"];
    for (int x = at["x"]; x < at["x"].get<int>() + at["w"].get<int>(); ++x) {
      for (int y = at["y"]; y < at["y"].get<int>() + at["h"].get<int>(); ++y) {
        const auto [place, free] = taken.emplace(std::pair(x, y), panel["title"]);
        ASSERT_TRUE(free) << panel["title"] << " covers " << place->second;
      }
    }
  }
}

TEST(Monitoring, TheRulesAskForWhatIsExportedAndAreDocumented) {
  const auto rules = text_of(source / "packaging/prometheus/tandem.rules.yml");
  const auto document = text_of(source / "docs/monitoring.md");
  // An expression stands on its line, or folded in the lines below.
  const std::regex rule(R"(- alert: (\w+)\n\s+expr: (?:>-\n)?([\s\S]*?)\n\s+(?:for|labels):)");
  std::set<std::string> alerts;
  for (std::sregex_iterator at(rules.begin(), rules.end(), rule), end; at != end; ++at) {
    alerts.insert((*at)[1]);
    expect_answerable((*at)[2]);
  }
  EXPECT_EQ(alerts, matches(rules, R"(- alert: (\w+))"));
  EXPECT_EQ(alerts, matches(document, "\n\\| `(Tandem\\w+)` \\|"));
  const auto used = matches(rules, R"(\$labels\.([a-z_]+))");
  EXPECT_THAT(all_labels(), IsSupersetOf(used));
}

/// What a command says, with its exit status.
std::pair<int, std::string> run(const std::string& command) {
  FILE* const pipe = ::popen((command + " 2>&1").c_str(), "r");
  if (pipe == nullptr) return {-1, "cannot start a shell"};
  std::string said(65536, '\0');
  said.resize(::fread(said.data(), 1, said.size(), pipe));
  const int status = ::pclose(pipe);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, said};
}

TEST(Monitoring, PrometheusAcceptsItsExampleConfigurationAndRules) {
  if (run("command -v promtool").first != 0) {
    GTEST_SKIP() << "promtool is not installed (Debian's package prometheus has it)";
  }
  const auto folder = source / "packaging/prometheus";
  for (const std::string& command :
       {"promtool check rules '" + (folder / "tandem.rules.yml").string() + "'",
        "promtool check config '" + (folder / "prometheus.yml").string() + "'",
        "promtool test rules '" + (source / "tests/docs/tandem.rules.test.yml").string() + "'"}) {
    const auto [status, said] = run(command);
    EXPECT_EQ(status, 0) << command << "\n" << said;
  }
}

TEST(Monitoring, PrometheusFindsNoFaultInTheNames) {
  if (run("command -v promtool").first != 0) {
    GTEST_SKIP() << "promtool is not installed (Debian's package prometheus has it)";
  }
  const auto file = std::filesystem::temp_directory_path() /
                    ("tandem-metrics-" + std::to_string(::getpid()) + ".txt");
  ASSERT_TRUE(replace_file(file, to_text(exported()), false));
  const auto [status, said] = run("promtool check metrics <'" + file.string() + "'");
  EXPECT_EQ(status, 0) << said;
  std::filesystem::remove(file);
}

}  // namespace
}  // namespace tandem::metrics
