// What the documentation says is what the code does: the example configuration, the manual pages,
// and the lists of docs/api.md.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdio.h>
#include <sys/wait.h>

#include <filesystem>
#include <regex>
#include <set>

#include "base/file.hpp"
#include "engine/api/client.hpp"
#include "engine/api/server.hpp"
#include "engine/cli/arguments.hpp"
#include "engine/daemon/config.hpp"
#include "engine/daemon/event_log.hpp"
#include "engine/session/trace_buffer.hpp"

namespace tandem::cli {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const fs::path source = TANDEM_SOURCE_DIR;

std::string text_of(const fs::path& path) {
  const auto text = read_file(path);
  if (!text) ADD_FAILURE() << text.error().message;
  return text ? *text : "";
}

/// The text between a heading and the next one of the same level.
std::string section(const std::string& text, const std::string& heading) {
  const auto begin = text.find("\n## " + heading + "\n");
  if (begin == std::string::npos) {
    ADD_FAILURE() << "there is no section " << heading;
    return {};
  }
  return text.substr(begin + 1, text.find("\n## ", begin + 1) - begin - 1);
}

/// The first cells of a section's table, without their backquotes.
std::set<std::string> first_cells(const std::string& section) {
  std::set<std::string> cells;
  const std::regex row("^\\| `([^`]+)` \\|", std::regex::multiline);
  for (std::sregex_iterator at(section.begin(), section.end(), row), end; at != end; ++at) {
    cells.insert((*at)[1]);
  }
  return cells;
}

TEST(CliDocs, TheExampleConfigurationIsRight) {
  const auto config = daemon::load_config(source / "packaging/tandemd.example.toml");
  ASSERT_TRUE(config) << config.error().message;
  // It claims to show the defaults.
  const daemon::Config defaults;
  EXPECT_EQ(config->state_dir, defaults.state_dir);
  EXPECT_EQ(config->run_dir, defaults.run_dir);
  EXPECT_EQ(config->listen.host, defaults.listen.host);
  EXPECT_EQ(config->listen.port, defaults.listen.port);
  ASSERT_TRUE(config->web_listen);
  EXPECT_EQ(config->web_listen->host, defaults.web_listen->host);
  EXPECT_EQ(config->web_listen->port, defaults.web_listen->port);
  EXPECT_EQ(config->web_names, defaults.web_names);
  EXPECT_EQ(config->heartbeat, defaults.heartbeat);
  EXPECT_EQ(config->heartbeat_timeout, defaults.heartbeat_timeout);
  EXPECT_EQ(config->controller, defaults.controller);
  EXPECT_EQ(config->colo_compare_timeout, defaults.colo_compare_timeout);
  EXPECT_EQ(config->policy, defaults.policy);
  EXPECT_EQ(config->arbiter_kind, defaults.arbiter_kind);
  EXPECT_EQ(config->qemu.binary, defaults.qemu.binary);
  EXPECT_EQ(config->qemu.accel, defaults.qemu.accel);
  EXPECT_EQ(config->hang_timeout, defaults.hang_timeout);
  ASSERT_EQ(config->vms.size(), 1u);
  const hypervisor::VmDefinition vm;
  EXPECT_EQ(config->vms[0].memory_mib, vm.memory_mib);
  EXPECT_EQ(config->vms[0].vcpus, vm.vcpus);
  EXPECT_EQ(config->vms[0].autostart, vm.autostart);
}

TEST(CliDocs, TheManualHasEveryKeyOfTheConfiguration) {
  const auto manual = text_of(source / "docs/man/tandemd.8");
  const auto code = text_of(source / "engine/daemon/config.cpp");
  const std::regex taken(
      "[.](text|path|flag|number|duration|texts|endpoint|table|tables)\\(\"([a-z_]+)\"");
  std::size_t keys = 0;
  for (std::sregex_iterator at(code.begin(), code.end(), taken), end; at != end; ++at, ++keys) {
    EXPECT_TRUE(std::regex_search(manual, std::regex("\\b" + (*at)[2].str() + "\\b")))
        << "tandemd(8) does not have " << (*at)[2];
  }
  EXPECT_GT(keys, 30u) << "the expression does not find the keys any more";
}

TEST(CliDocs, TheManualHasEveryCommandAndOption) {
  const auto manual = text_of(source / "docs/man/tandem.1");
  for (const std::vector<std::string>& command : {std::vector<std::string>{},
                                                  {"status"},
                                                  {"events"},
                                                  {"vm"},
                                                  {"vm", "start"},
                                                  {"vm", "stop"},
                                                  {"vm", "list"},
                                                  {"protect"},
                                                  {"policy"},
                                                  {"mode"},
                                                  {"top"},
                                                  {"record"},
                                                  {"replay"},
                                                  {"unprotect"},
                                                  {"failover"},
                                                  {"trace"},
                                                  {"doctor"}}) {
    auto words = command;
    words.push_back("--help");
    const auto parsed = parse_arguments(words, "");
    ASSERT_TRUE(parsed);
    const auto help = std::get<ShowCommand>(parsed->command).text;
    const std::regex option("--([a-z-]+)");
    for (std::sregex_iterator at(help.begin(), help.end(), option), end; at != end; ++at) {
      EXPECT_THAT(manual, HasSubstr("Fl Fl " + (*at)[1].str()));
    }
    std::string title;
    for (const auto& word : command) title += (title.empty() ? "" : " ") + word;
    if (title == "vm") continue;  // it is nothing by itself
    if (!title.empty()) {
      EXPECT_THAT(manual, HasSubstr("\n.It Cm " + title));
    }
  }
}

TEST(CliDocs, TheManualPagesAreWellFormed) {
  for (const char* page : {"tandem.1", "tandemd.8"}) {
    const auto command =
        "groff -mdoc -ww -Tutf8 '" + (source / "docs/man" / page).string() + "' 2>&1 >/dev/null";
    FILE* const pipe = ::popen(command.c_str(), "r");
    ASSERT_NE(pipe, nullptr);
    std::string said(4096, '\0');
    said.resize(::fread(said.data(), 1, said.size(), pipe));
    const int status = ::pclose(pipe);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127) GTEST_SKIP() << "groff is not installed";
    EXPECT_EQ(status, 0) << page;
    EXPECT_EQ(said, "") << page;
  }
}

TEST(CliDocs, EveryEventTypeIsDocumented) {
  // The types stand in the code as the first literal of a call that records an event.
  const std::regex recorded(
      "(?:\\bevent\\(\\s*|events_\\.add\\([^\";]*(?:\"\",\\s*)?)\"([a-z]+(?:-[a-z]+)*)\"");
  // Where the type is chosen by a condition.
  const std::regex chosen("\\bevent\\([^;]*\\? \"([a-z-]+)\"\\s*: \"([a-z-]+)\"");
  std::set<std::string> found;
  for (const char* folder : {"engine/daemon", "engine/session"}) {
    for (const auto& entry : fs::directory_iterator(source / folder)) {
      if (entry.path().extension() != ".cpp") continue;
      const auto code = text_of(entry.path());
      for (std::sregex_iterator at(code.begin(), code.end(), recorded), end; at != end; ++at) {
        found.insert((*at)[1]);
      }
      for (std::sregex_iterator at(code.begin(), code.end(), chosen), end; at != end; ++at) {
        found.insert((*at)[1]);
        found.insert((*at)[2]);
      }
    }
  }
  EXPECT_EQ(found, first_cells(section(text_of(source / "docs/api.md"), "Event types")));
  const auto types = daemon::event_types();
  EXPECT_EQ(found, std::set<std::string>(types.begin(), types.end()));
}

TEST(CliDocs, TheTraceIsDocumentedFieldByField) {
  session::TraceBuffer buffer({"n0"});
  buffer.touch({});
  buffer.add({}, 0, session::TraceSide::primary, 1, {}, "");
  const auto answer = buffer.after(0);
  std::set<std::string> found;
  for (const auto& [key, value] : answer.items()) found.insert(key);
  for (const auto& [key, value] : answer["records"][0].items()) found.insert("records[]." + key);
  EXPECT_EQ(found, first_cells(section(text_of(source / "docs/api.md"), "Trace")));
}

TEST(CliDocs, EveryErrorCodeIsDocumentedWithItsStatus) {
  const auto errors = section(text_of(source / "docs/api.md"), "Errors");
  const auto documented = first_cells(errors);
  for (int i = 0; i <= static_cast<int>(Errc::io); ++i) {
    const auto code = static_cast<Errc>(i);
    const auto row = "| `" + std::string(to_string(code)) + "` | " +
                     std::to_string(api::http_status(code)) + " |";
    EXPECT_THAT(errors, HasSubstr(row));
  }
  EXPECT_EQ(documented.size(), static_cast<std::size_t>(Errc::io) + 1);
  for (const auto& code : documented) EXPECT_TRUE(api::errc_from_string(code)) << code;
}

}  // namespace
}  // namespace tandem::cli
