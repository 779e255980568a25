// `tandem` against a real tandemd, and against none.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <functional>
#include <regex>
#include <set>

#include "tests/integration/cli_runner.hpp"

namespace tandem::cli {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::HasSubstr;
using Words = std::vector<std::string>;

const std::vector<Words> asking_commands{{"status"},
                                         {"status", "web"},
                                         {"status", "--watch"},
                                         {"events"},
                                         {"events", "--follow"},
                                         {"vm", "list"},
                                         {"vm", "start", "web"},
                                         {"vm", "stop", "web"},
                                         {"protect", "web", "--to", "beta"},
                                         {"policy", "web"},
                                         {"policy", "web", "hybrid"},
                                         {"mode", "web", "colo"},
                                         {"top"},
                                         {"top", "--once"},
                                         {"record", "web", "--output", "/nonexistent/f"},
                                         {"unprotect", "web"},
                                         {"failover", "web"}};

/// One daemon for all tests that only ask it things.
class WithDaemon : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    auto world = world::World::make({});
    ASSERT_TRUE(world) << world.error().message;
    world_ = std::make_unique<world::World>(std::move(*world));
    auto options = daemon_options();
    options.vms = {small_vm("web")};
    const auto started = world_->alpha().start_daemon(options);
    ASSERT_TRUE(started) << started.error().message;
  }
  static void TearDownTestSuite() { world_.reset(); }
  static Ran ask(Words words) { return tandem(world_->alpha(), std::move(words)); }

  static std::unique_ptr<world::World> world_;
};
std::unique_ptr<world::World> WithDaemon::world_;

Words with(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

TEST(Cli, EveryCommandHasHelp) {
  for (const Words& command :
       {Words{}, Words{"status"}, Words{"events"}, Words{"vm"}, Words{"vm", "start"},
        Words{"vm", "stop"}, Words{"vm", "list"}, Words{"protect"}, Words{"policy"}, Words{"mode"},
        Words{"unprotect"}, Words{"failover"}, Words{"top"}, Words{"record"}, Words{"replay"},
        Words{"trace"}, Words{"doctor"}}) {
    const auto ran = tandem(with(command, {"--help"}));
    EXPECT_EQ(ran.status, 0);
    EXPECT_EQ(ran.err, "");
    std::string title = "tandem";
    for (const auto& word : command) title += " " + word;
    for (const auto& shown : {"Usage: " + title, std::string("--socket"), std::string("--json")}) {
      EXPECT_THAT(ran.out, HasSubstr(shown));
    }
  }
}

TEST(Cli, TheVersionIsShown) {
  const auto ran = tandem({"--version"});
  EXPECT_EQ(ran.status, 0);
  EXPECT_TRUE(std::regex_match(ran.out, std::regex("tandem [0-9]+[.][0-9]+[.][0-9]+\n")))
      << ran.out;
}

TEST(Cli, AWrongCommandLineIsStatusTwo) {
  for (const Words& words : {Words{}, Words{"nonsense"}, Words{"vm"}, Words{"status", "--nonsense"},
                             Words{"protect", "web"}, Words{"status", "a/b"}}) {
    const auto ran = tandem(words);
    EXPECT_EQ(ran.status, 2);
    EXPECT_EQ(ran.out, "");
    EXPECT_TRUE(is_one_line_of_error(ran.err));
    const auto in_json = tandem(with({"--json"}, words));
    EXPECT_EQ(in_json.status, 2);
    EXPECT_EQ(in_json.json()["error"]["code"], "invalid-input");
  }
}

TEST(Cli, WithoutADaemonEveryCommandSaysWhichSocketAndHowToStart) {
  const Folder folder;
  const std::string socket = folder / "api.sock";
  for (const auto& command : asking_commands) {
    const auto ran = tandem(with({"--socket", socket}, command));
    EXPECT_EQ(ran.status, 1) << command.front();
    EXPECT_EQ(ran.out, "");
    EXPECT_TRUE(is_one_line_of_error(ran.err));
    EXPECT_THAT(ran.err, HasSubstr("there is no socket " + socket));
    EXPECT_THAT(ran.err, HasSubstr("systemctl start tandemd"));
    const auto in_json = tandem(with(command, {"--json", "--socket", socket}));
    EXPECT_EQ(in_json.status, 1);
    EXPECT_EQ(in_json.json()["error"]["code"], "unavailable");
    EXPECT_EQ("tandem: " + in_json.json()["error"]["message"].get<std::string>() + "\n",
              in_json.err);
  }
}

TEST(Cli, TheEnvironmentNamesTheSocket) {
  const auto ran = run({TANDEM_PROGRAM, "status"}, nullptr, {"TANDEM_SOCKET=/nonexistent/s.sock"});
  EXPECT_EQ(ran.status, 1);
  EXPECT_THAT(ran.err, HasSubstr("/nonexistent/s.sock"));
}

TEST(Cli, AFileThatIsNoSocketIsNamedSo) {
  const Folder folder;
  std::ofstream(folder / "file") << "x";
  const auto ran = tandem({"--socket", folder / "file", "status"});
  EXPECT_EQ(ran.status, 1);
  EXPECT_THAT(ran.err, HasSubstr("is not a socket"));
}

TEST(Cli, ASocketPathThatCannotBeOneIsRefused) {
  const auto ran = tandem({"--socket", "/tmp/" + std::string(120, 'x'), "status"});
  EXPECT_EQ(ran.status, 1);
  EXPECT_TRUE(is_one_line_of_error(ran.err));
}

TEST(Cli, TheDemoIsTheProgramBesideThisOne) {
  const Folder folder;
  fs::copy_file(TANDEM_PROGRAM, folder / "tandem");
  const auto missing = run({folder / "tandem", "demo"});
  EXPECT_EQ(missing.status, 1);
  EXPECT_TRUE(is_one_line_of_error(missing.err));
  EXPECT_THAT(missing.err,
              HasSubstr("not installed: there is no " + (folder / "tandem-demo").string()));
  std::ofstream(folder / "tandem-demo") << "#!/bin/sh\nprintf '%s|' \"$@\"\nexit 7\n";
  fs::permissions(folder / "tandem-demo", fs::perms::owner_all);
  const auto ran = run({folder / "tandem", "demo", "--rounds", "2", "a b", "--json", "-"});
  EXPECT_EQ(ran.status, 7);
  EXPECT_EQ(ran.out, "--rounds|2|a b|--json|-|");
}

TEST_F(WithDaemon, StatusIsATableOrTheAnswer) {
  const auto table = ask({"status"});
  EXPECT_EQ(table.status, 0) << table.err;
  EXPECT_THAT(table.out, HasSubstr("alpha: tandem "));
  EXPECT_THAT(table.out, testing::ContainsRegex("\nweb +none +stopped"));
  const auto in_json = ask({"status", "--json"}).json();
  EXPECT_EQ(in_json["host"], "alpha");
  EXPECT_EQ(in_json["vms"][0]["name"], "web");
  EXPECT_EQ(ask({"status", "web", "--json"}).json(), in_json["vms"][0]);
  EXPECT_THAT(ask({"status", "web"}).out, testing::ContainsRegex("\nstate +stopped"));
}

TEST_F(WithDaemon, VmsAreListed) {
  EXPECT_THAT(ask({"vm", "list"}).out, testing::ContainsRegex("^VM .*\nweb +none +stopped\n$"));
  EXPECT_EQ(ask({"vm", "list", "--json"}).json()[0]["name"], "web");
}

TEST_F(WithDaemon, WhatTheDaemonRefusesIsToldInItsWords) {
  const std::vector<std::tuple<Words, std::string, std::string>> cases{
      {{"status", "nobody"}, "not-found", "there is no VM \"nobody\" on alpha"},
      {{"vm", "start", "nobody"}, "not-found", "there is no VM \"nobody\" on alpha"},
      {{"vm", "stop", "web"}, "conflict", "web cannot be stopped: it is not running"},
      {{"protect", "nobody", "--to", "beta"}, "not-found", "there is no VM \"nobody\" on alpha"},
      {{"protect", "web", "--to", "gamma"}, "not-found", "there is no peer \"gamma\""},
      {{"protect", "web", "--to", "beta"},
       "conflict",
       "web cannot be protected: it is not running"},
      {{"mode", "nobody", "colo"}, "not-found", "there is no VM \"nobody\" on alpha"},
      {{"mode", "web", "colo"},
       "conflict",
       "web cannot be given another policy: it is not running"},
      {{"policy", "nobody"}, "not-found", "there is no VM \"nobody\" on alpha"},
      {{"policy", "web"}, "conflict", "web has no controller here: it is not protected"},
      {{"policy", "web", "--set", "window_s=5"},
       "conflict",
       "web cannot be given another policy: it is not running"},
      {{"top", "nobody"}, "not-found", "there is no VM \"nobody\" on alpha"},
      {{"record", "web", "--output", "/nonexistent/f"},
       "conflict",
       "web has no controller: this host is not its pair's primary"},
      {{"unprotect", "web"}, "conflict", "web cannot be unprotected: it is not running"},
      {{"failover", "web"}, "conflict", "web cannot be switched over: it is not running"},
  };
  for (const auto& [words, code, message] : cases) {
    const auto ran = ask(words);
    EXPECT_EQ(ran.status, 1) << message;
    EXPECT_EQ(ran.out, "");
    EXPECT_TRUE(is_one_line_of_error(ran.err));
    EXPECT_THAT(ran.err, HasSubstr(message));
    const auto in_json = ask(with(words, {"--json"}));
    EXPECT_EQ(in_json.status, 1);
    EXPECT_EQ(in_json.json()["error"]["code"], code);
    EXPECT_THAT(in_json.json()["error"]["message"].get<std::string>(), HasSubstr(message));
  }
}

TEST_F(WithDaemon, TheApiRefusesValuesOfTheWrongType) {
  const auto api = world_->alpha().api();
  const std::vector<json> bodies{json{{"peer", 1}},
                                 json{{"peer", nullptr}},
                                 json::object(),
                                 json{{"peer", "beta"}, {"policy", 3}},
                                 json{{"peer", "beta"}, {"policy", "hybird"}},
                                 json{{"peer", "beta"}, {"parameters", 3}},
                                 json{{"peer", "beta"}, {"more", "x"}},
                                 json::array(),
                                 json("beta")};
  for (const auto& body : bodies) {
    const auto answer = api.post("/v1/vms/web/protect", body, std::chrono::seconds(5));
    ASSERT_FALSE(answer) << body;
    EXPECT_EQ(answer.error().code, Errc::invalid_input) << body;
  }
  for (const char* query : {"after=x", "after=-1", "wait_ms=60001", "wait_ms="}) {
    const auto answer = api.get(std::string("/v1/events?") + query, std::chrono::seconds(5));
    ASSERT_FALSE(answer) << query;
    EXPECT_EQ(answer.error().code, Errc::invalid_input) << query;
  }
  for (const char* target : {"/", "/v1", "/v2/status", "/v1/vms/", "/v1/vms/web/start"}) {
    const auto answer = api.get(target, std::chrono::seconds(5));
    ASSERT_FALSE(answer) << target;
    EXPECT_EQ(answer.error().code, Errc::not_found) << target;
  }
  EXPECT_EQ(api.post("/v1/vms/web/explode", json::object(), std::chrono::seconds(5)).error().code,
            Errc::not_found);
}

TEST_F(WithDaemon, WatchRepeatsLinesUntilItIsInterrupted) {
  const Folder folder;
  world::SpawnOptions options;
  options.argv = {TANDEM_PROGRAM, "--socket", world_->alpha().place().api_socket, "status",
                  "--watch"};
  options.stdout_file = folder / "out";
  auto process = world::Process::spawn(options);
  ASSERT_TRUE(process);
  std::string out;
  const auto lines = [&] { return std::count(out.begin(), out.end(), '\n'); };
  for (int i = 0; i < 1000 && lines() < 2; ++i) {
    ASSERT_FALSE(process->wait(std::chrono::milliseconds(10))) << "it ended by itself";
    out = content(options.stdout_file);
  }
  EXPECT_GE(lines(), 2);
  EXPECT_THAT(out, testing::ContainsRegex("^[0-9-]+ [0-9:.]+  web none stopped\n"));
  EXPECT_THAT(out, testing::Not(HasSubstr("\x1b")));
  ASSERT_TRUE(process->kill(SIGINT));
  const auto ended = process->wait(std::chrono::seconds(5));
  ASSERT_TRUE(ended);
  EXPECT_TRUE(ended->success()) << ended->describe();
}

TEST_F(WithDaemon, ASecondDaemonOnTheSameSocketIsRefused) {
  const auto& place = world_->alpha().place();
  auto config = content(world_->alpha().directory() / "tandemd.toml");
  const Folder folder;
  const auto at = config.find(place.state_dir.string());
  ASSERT_NE(at, std::string::npos);
  config.replace(at, place.state_dir.string().size(), (folder / "state").string());
  std::ofstream(folder / "second.toml") << config;
  const auto second =
      run({TANDEMD_PROGRAM, "--config", folder / "second.toml"}, &world_->alpha().net());
  EXPECT_EQ(second.status, 1);
  EXPECT_THAT(second.err, HasSubstr("another daemon listens on " + place.api_socket.string()));
  EXPECT_EQ(ask({"status"}).status, 0) << "the first one must go on";
}

TEST_F(WithDaemon, ASecondDaemonOnTheSameStateFolderIsRefused) {
  const auto& place = world_->alpha().place();
  const Folder folder;
  std::ofstream(folder / "second.toml") << content(world_->alpha().directory() / "tandemd.toml");
  const auto second =
      run({TANDEMD_PROGRAM, "--config", folder / "second.toml"}, &world_->alpha().net());
  EXPECT_EQ(second.status, 1);
  EXPECT_THAT(second.err, HasSubstr("another tandemd uses " + place.state_dir.string()));
  EXPECT_EQ(ask({"status"}).status, 0) << "the first one must go on";
}

// ---- the documented fields

std::string section(const std::string& text, const std::string& heading) {
  const auto begin = text.find("\n## " + heading + "\n");
  EXPECT_NE(begin, std::string::npos) << heading;
  return text.substr(begin + 1, text.find("\n## ", begin + 1) - begin - 1);
}

/// Field → type, of the tables of one section of docs/api.md.
std::map<std::string, std::string> documented_fields(const std::string& heading) {
  const auto text = section(content(fs::path(TANDEM_SOURCE_DIR) / "docs/api.md"), heading);
  std::map<std::string, std::string> fields;
  const std::regex row("^\\| `([a-z0-9_.]+)` \\| ([^|]+) \\|", std::regex::multiline);
  for (std::sregex_iterator at(text.begin(), text.end(), row), end; at != end; ++at) {
    fields[(*at)[1]] = (*at)[2];
  }
  EXPECT_FALSE(fields.empty()) << heading;
  return fields;
}

std::string type_name(const json& value) {
  if (value.is_number()) return "number";
  return value.type_name();
}

/// The members of `value` are the documented ones, each of its documented type.
void expect_documented(const json& value, const std::string& heading) {
  const auto fields = documented_fields(heading);
  std::set<std::string> documented, found;
  for (const auto& [field, type] : fields) {
    const auto dot = field.find('.');
    const auto parent = field.substr(0, dot);
    // What lies in an object that may be null is there only if the object is.
    if (dot != std::string::npos && value.contains(parent) && value[parent].is_null()) continue;
    documented.insert(field);
  }
  const std::function<void(const json&, const std::string&)> check = [&](const json& object,
                                                                         const std::string& path) {
    for (const auto& [key, member] : object.items()) {
      const auto field = path + key;
      found.insert(field);
      const auto known = fields.find(field);
      if (known != fields.end()) {
        EXPECT_THAT(known->second, HasSubstr(type_name(member))) << heading << " " << field;
      }
      // An event's data belongs to its type; figures and parameters are in docs/controller.md.
      const bool is_open = key == "data" || key == "figures" || key == "parameters";
      if (member.is_object() && !is_open) check(member, field + ".");
    }
  };
  check(value, "");
  EXPECT_EQ(found, documented) << heading;
}

TEST_F(WithDaemon, AnswersHaveTheDocumentedFieldsAndNoOthers) {
  const auto api = world_->alpha().api();
  const auto status = api.get("/v1/status", std::chrono::seconds(5));
  ASSERT_TRUE(status) << status.error().message;
  expect_documented(*status, "Status");
  expect_documented((*status)["vms"].at(0), "VM");
}

// A real pair of QEMUs, by the command line alone.
class Pair : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (!fs::exists("/usr/bin/qemu-system-x86_64")) GTEST_SKIP() << "QEMU is not installed";
    if (!fs::exists("/dev/net/tun")) GTEST_SKIP() << "/dev/net/tun is missing";
  }
  void SetUp() override {
    auto world = world::World::make({});
    ASSERT_TRUE(world) << world.error().message;
    world_ = std::make_unique<world::World>(std::move(*world));
    auto options = daemon_options();
    options.vms = {small_vm("web")};
    const auto alpha = world_->alpha().start_daemon(options);
    ASSERT_TRUE(alpha) << alpha.error().message;
    const auto beta = world_->beta().start_daemon(daemon_options());
    ASSERT_TRUE(beta) << beta.error().message;
  }
  Ran alpha(Words words) { return tandem(world_->alpha(), std::move(words)); }
  Ran beta(Words words) { return tandem(world_->beta(), std::move(words)); }

  std::unique_ptr<world::World> world_;
};

TEST_F(Pair, IsMadeShownSwitchedOverAndEnded) {
  const Folder folder;
  world::SpawnOptions follow;
  follow.argv = {TANDEM_PROGRAM, "events",   "--follow",
                 "--json",       "--socket", world_->beta().place().api_socket};
  follow.stdout_file = folder / "events";
  follow.stderr_file = folder / "events.err";
  auto follower = world::Process::spawn(follow);
  ASSERT_TRUE(follower);

  auto ran = alpha({"vm", "start", "web"});
  ASSERT_EQ(ran.status, 0) << ran.err;
  EXPECT_EQ(ran.out, "web is running\n");
  EXPECT_EQ(alpha({"vm", "start", "web"}).status, 1) << "it runs already";

  ran = alpha({"protect", "web", "--to", "beta"});
  ASSERT_EQ(ran.status, 0) << ran.err;
  EXPECT_EQ(ran.out, "web is protected by beta\n");
  EXPECT_EQ(ran.err, "") << "no progress where there is no terminal";

  EXPECT_THAT(alpha({"status"}).out,
              testing::ContainsRegex("web +primary +protected +periodic +periodic +beta"));
  EXPECT_THAT(beta({"status"}).out,
              testing::ContainsRegex("web +secondary +protected +periodic +periodic +alpha"));
  expect_documented(alpha({"status", "web", "--json"}).json(), "VM");
  expect_documented(beta({"status", "web", "--json"}).json(), "VM");
  EXPECT_EQ(alpha({"vm", "stop", "web"}).status, 1) << "a member of a pair is not stopped";

  ran = alpha({"failover", "web"});
  ASSERT_EQ(ran.status, 0) << ran.err;
  EXPECT_EQ(ran.out, "web goes on on its peer\n");
  // The follower shows the promotion as soon as it has happened.
  std::string events;
  for (int i = 0; i < 1000 && events.find("\"promoted\"") == std::string::npos; ++i) {
    ASSERT_FALSE(follower->wait(std::chrono::milliseconds(10))) << content(folder / "events.err");
    events = content(folder / "events");
  }
  EXPECT_THAT(events, HasSubstr("\"promoted\""));
  ASSERT_TRUE(follower->kill(SIGINT));
  const auto ended = follower->wait(std::chrono::seconds(5));
  ASSERT_TRUE(ended);
  EXPECT_TRUE(ended->success()) << ended->describe();
  EXPECT_THAT(beta({"status"}).out, testing::ContainsRegex("web +solo +running"));
  expect_documented(beta({"status", "web", "--json"}).json(), "VM");

  // Back again, and then apart.
  ran = beta({"protect", "web", "--to", "alpha"});
  ASSERT_EQ(ran.status, 0) << ran.err;
  const auto before = alpha({"events", "--json"}).json()["next"].get<std::uint64_t>();
  ran = beta({"unprotect", "web"});
  ASSERT_EQ(ran.status, 0) << ran.err;
  EXPECT_EQ(ran.out, "web goes on without protection\n");
  // The other host ends its part of the pair in its own time; no event may come after that.
  const auto target = "/v1/events?after=" + std::to_string(before) + "&wait_ms=5000";
  const auto at_alpha = world_->alpha().api().get(target, std::chrono::seconds(10));
  ASSERT_TRUE(at_alpha) << at_alpha.error().message;
  EXPECT_EQ((*at_alpha)["events"].at(0)["type"], "unprotected");
  ran = beta({"vm", "stop", "web"});
  ASSERT_EQ(ran.status, 0) << ran.err;
  EXPECT_EQ(ran.out, "web is stopped\n");

  // Every event of both hosts is of a documented form.
  std::set<std::string> types;
  for (const auto* host : {&world_->alpha(), &world_->beta()}) {
    const auto answer = tandem(*host, {"events", "--json"}).json();
    expect_documented(answer, "Events");
    const auto documented =
        section(content(fs::path(TANDEM_SOURCE_DIR) / "docs/api.md"), "Event types");
    for (const auto& event : answer["events"]) {
      expect_documented(event, "Event");
      const auto type = event["type"].get<std::string>();
      types.insert(type);
      std::smatch row;
      ASSERT_TRUE(
          std::regex_search(documented, row, std::regex("\\| `" + type + "` \\|([^|]*)\\|")))
          << type;
      for (const auto& [key, value] : event["data"].items()) {
        EXPECT_THAT(row[1].str(), HasSubstr("`" + key + "`")) << type;
      }
    }
    const auto text = tandem(*host, {"events"});
    EXPECT_EQ(static_cast<std::size_t>(std::count(text.out.begin(), text.out.end(), '\n')),
              answer["events"].size());
    const auto last = answer["next"].get<std::uint64_t>();
    EXPECT_EQ(tandem(*host, {"events", "--after", std::to_string(last)}).out, "");
  }
  for (const char* type : {"vm-started", "protecting", "protected", "synchronised", "promoted",
                           "unprotected", "vm-exited"}) {
    EXPECT_TRUE(types.contains(type)) << type;
  }
}

}  // namespace
}  // namespace tandem::cli
