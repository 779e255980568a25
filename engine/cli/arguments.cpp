#include "engine/cli/arguments.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <optional>

#include "controller/controller.hpp"
#include "engine/daemon/config.hpp"

namespace tandem::cli {
namespace {

constexpr const char* default_socket = "/run/tandem/api.sock";
constexpr const char* default_config = "/etc/tandem/tandemd.toml";
constexpr std::uint64_t seconds_max = 1'000'000;

/// The words after "demo", if that is the command: they are tandem-demo's and not looked at here.
std::optional<DemoCommand> demo_command(const std::vector<std::string>& words) {
  std::size_t at = 0;
  bool json = false;
  for (; at < words.size() && words[at].starts_with('-'); ++at) {
    if (words[at] == "--json") {
      json = true;
    } else if (words[at] == "--socket") {
      ++at;
    } else if (!words[at].starts_with("--socket=")) {
      return std::nullopt;
    }
  }
  if (at >= words.size() || words[at] != "demo") return std::nullopt;
  DemoCommand demo;
  demo.arguments.assign(words.begin() + static_cast<std::ptrdiff_t>(at) + 1, words.end());
  // tandem-demo's --json names a file.
  if (json) demo.arguments.insert(demo.arguments.end(), {"--json", "-"});
  return demo;
}

std::string check_name(const std::string& name) {
  if (daemon::is_valid_name(name)) return {};
  return "\"" + name +
         "\" is not a name (a letter or digit, then letters, digits, '.', '_', '-'; at most 63)";
}

/// CLI11 would take -1 for the largest number.
std::string check_digits(const std::string& text) {
  const bool digits = std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
  return digits ? "" : "\"" + text + "\" is not a whole number";
}

std::vector<std::string> policy_names() {
  std::vector<std::string> names;
  for (const auto policy : controller::policies) names.emplace_back(to_string(policy));
  return names;
}

std::map<std::string, TopColumn> top_columns() {
  std::map<std::string, TopColumn> columns;
  for (const auto column : top_sort_columns) columns.emplace(to_string(column), column);
  return columns;
}

/// NAME=VALUE, each by itself.
std::string check_setting(const std::string& text) {
  PolicyChange change;
  const auto taken = add_setting(change, text);
  return taken ? "" : taken.error().message;
}

std::string check_not_empty(const std::string& text) {
  return text.empty() ? "must not be empty" : "";
}

/// The options of every command, so that they may stand before and after its name.
void add_common(CLI::App& app, Arguments& into, std::string& socket) {
  app.add_option(
         "--socket", socket,
         "tandemd's API socket (default: $TANDEM_SOCKET, else " + std::string(default_socket) + ")")
      ->type_name("PATH")
      ->check(check_not_empty);
  app.add_flag("--json", into.json, "answer in JSON");
}

class Parser {
 public:
  explicit Parser(Arguments& into) : into_(into) {
    app_.require_subcommand(1);
    app_.set_version_flag("--version", "tandem " TANDEM_VERSION);
    app_.set_help_flag("-h,--help", "show this help");
    add_common(app_, into_, socket_);
    add_status();
    add_events();
    add_vm();
    add_protect();
    add_policy();
    add_mode();
    add_change(app_, "unprotect", "end the protection of a VM; it runs on here");
    add_change(app_, "failover", "let the peer take a protected VM over; nothing is lost");
    add_top();
    add_record();
    add_replay();
    add_trace();
    add_doctor();
    // Its words never come here; it stands in the list of commands.
    app_.add_subcommand("demo",
                        "kill a host under a running service, and watch (tandem demo --help)");
  }

  Result<void> parse(const std::vector<std::string>& words,
                     const std::string& socket_of_environment) {
    // CLI11 takes them from the back.
    std::vector<std::string> reversed(words.rbegin(), words.rend());
    try {
      app_.parse(std::move(reversed));
    } catch (const CLI::CallForHelp&) {
      into_.command = ShowCommand{app_.help()};
      return {};
    } catch (const CLI::CallForVersion& version) {
      into_.command = ShowCommand{version.what() + std::string("\n")};
      return {};
    } catch (const CLI::ParseError& error) {
      // CLI11 misses the command before it complains of a word that is none.
      const auto unknown = app_.remaining(true);
      const auto what = unknown.empty() ? std::string(error.what())
                                        : "\"" + unknown.front() + "\" is not understood";
      return Error{Errc::invalid_input, what + " (see " + path_of(innermost()) + " --help)"};
    }
    if (const auto* trace = std::get_if<TraceCommand>(&into_.command)) {
      // Either says where the frames go.
      if (trace->file.empty() != into_.json) {
        const std::string what = into_.json ? "--pcap excludes --json" : "--pcap is required";
        return Error{Errc::invalid_input, what + " (see tandem trace --help)"};
      }
    }
    into_.socket = !socket_.empty()                 ? socket_
                   : !socket_of_environment.empty() ? socket_of_environment
                                                    : default_socket;
    return {};
  }

 private:
  CLI::App& command(CLI::App& parent, const std::string& name, const std::string& description) {
    auto& app = *parent.add_subcommand(name, description);
    add_common(app, into_, socket_);
    return app;
  }

  static void add_vm_name(CLI::App& app, std::string& into, const char* description) {
    app.add_option("VM", into, description)->required()->type_name("")->check(check_name);
  }

  void add_status() {
    auto& app = command(app_, "status", "show this host's VMs, or one of them");
    app.add_option("VM", status_.vm, "the VM to show in detail")->type_name("")->check(check_name);
    app.add_flag("--watch", status_.watch, "show it again every second, until interrupted");
    app.callback([this] { into_.command = status_; });
  }

  void add_events() {
    auto& app = command(app_, "events", "show what has happened on this host");
    app.add_flag("--follow", events_.follow,
                 "show what happens from now on, too, until interrupted");
    app.add_option("--after", events_.after, "leave out the events up to this number")
        ->type_name("SEQ")
        ->check(check_digits);
    app.callback([this] { into_.command = events_; });
  }

  void add_vm() {
    auto& vm = command(app_, "vm", "start, stop and list VMs");
    vm.require_subcommand(1);
    add_change(vm, "start", "start a VM of this host's configuration");
    add_change(vm, "stop", "stop an unprotected VM, as if its power were cut");
    auto& list = command(vm, "list", "list the VMs of this host");
    list.callback([this] { into_.command = ListCommand{}; });
  }

  void add_change(CLI::App& parent, const std::string& action, const std::string& description) {
    auto& app = command(parent, action, description);
    add_vm_name(app, vm_, "the VM's name");
    app.callback([this, action] { into_.command = ChangeCommand{vm_, action}; });
  }

  void add_protect() {
    auto& app = command(app_, "protect", "replicate a running VM to a peer");
    add_vm_name(app, protect_.vm, "the VM's name");
    app.add_option("--to", protect_.peer, "the peer that will hold the secondary VM")
        ->required()
        ->type_name("PEER")
        ->check(check_name);
    add_change_options(app, protect_.choice,
                       "when checkpoints are taken (default: as tandemd is configured)");
    app.callback([this] {
      take_settings(protect_.choice);
      into_.command = protect_;
    });
  }

  /// --policy and --set.
  void add_change_options(CLI::App& app, PolicyChange& into, const char* description) {
    app.add_option("--policy", into.policy, description)
        ->type_name("POLICY")
        ->check(CLI::IsMember(policy_names()));
    add_settings(app);
  }

  void add_settings(CLI::App& app) {
    app.add_option("--set", settings_, "a parameter of the controller; may be given several times")
        ->type_name("NAME=VALUE")
        ->allow_extra_args(false)
        ->check(check_setting);
  }

  void take_settings(PolicyChange& into) const {
    for (const auto& setting : settings_) {
      const auto taken = add_setting(into, setting);
      if (!taken) throw CLI::ValidationError("--set", taken.error().message);
    }
  }

  void add_policy() {
    auto& app = command(app_, "policy", "show or change what decides a protected VM's checkpoints");
    add_vm_name(app, policy_.vm, "the VM's name");
    app.add_option("POLICY", policy_.change.policy, "another policy, from now on")
        ->type_name("")
        ->check(CLI::IsMember(policy_names()));
    add_settings(app);
    app.callback([this] {
      take_settings(policy_.change);
      into_.command = policy_;
    });
  }

  void add_mode() {
    auto& app = command(app_, "mode", "run a protected VM in one mode: the policy of that name");
    add_vm_name(app, mode_.vm, "the VM's name");
    app.add_option("MODE", mode_.mode, "periodic, or colo: as soon as the VMs' outputs differ")
        ->required()
        ->type_name("")
        ->check(CLI::IsMember({"periodic", "colo"}));
    app.callback([this] { into_.command = mode_; });
  }

  void add_top() {
    auto& app = command(app_, "top", "show this host's VMs live, and what their controllers do");
    app.add_option("VM", top_.vms, "the VMs to show (default: all)")
        ->type_name("")
        ->check(check_name);
    app.add_option("--interval", top_.interval_s, "between two looks, in seconds")
        ->type_name("S")
        ->capture_default_str()
        ->check(CLI::Range(0.1, 60.0));
    app.add_flag("--once", top_.once, "print one frame and end");
    app.add_option("--sort", top_sort_, "the column to sort by")
        ->type_name("COLUMN")
        ->capture_default_str()
        ->check(CLI::IsMember(top_columns()));
    app.callback([this] {
      top_.sort = top_columns().at(top_sort_);
      into_.command = top_;
    });
  }

  void add_record() {
    auto& app = command(app_, "record", "record what a VM's controller sees and decides");
    add_vm_name(app, record_.vm, "the VM's name");
    app.add_option("--output", record_.file, "the recording (-: standard output)")
        ->required()
        ->type_name("FILE")
        ->check(check_not_empty);
    app.add_option("--seconds", record_.seconds, "end by itself, and not when interrupted")
        ->type_name("S")
        ->check(check_digits)
        ->check(CLI::Range(std::uint64_t{1}, seconds_max));
    app.callback([this] { into_.command = record_; });
  }

  void add_replay() {
    auto& app = command(app_, "replay", "decide again what a recording says was decided");
    app.add_option("FILE", replay_.file, "a recording (-: standard input)")
        ->required()
        ->type_name("")
        ->check(check_not_empty);
    add_change_options(app, replay_.otherwise,
                       "what another policy would have said of the same observations");
    app.callback([this] {
      take_settings(replay_.otherwise);
      into_.command = replay_;
    });
  }

  void add_trace() {
    auto& app = command(app_, "trace", "record which frames of a VM in colo mode are compared");
    add_vm_name(app, trace_.vm, "the VM's name");
    app.add_option("--pcap", trace_.file, "write pcapng to this file (-: standard output)")
        ->type_name("FILE")
        ->check(check_not_empty);
    app.add_option("--seconds", trace_.seconds, "end by itself, and not when interrupted")
        ->type_name("S")
        ->check(check_digits)
        ->check(CLI::Range(std::uint64_t{1}, seconds_max));
    app.callback([this] { into_.command = trace_; });
  }

  void add_doctor() {
    auto& app = command(app_, "doctor", "check this host, its configuration and its peers");
    doctor_.config = default_config;
    app.add_option("--config", doctor_.config, "tandemd's configuration file")
        ->type_name("FILE")
        ->capture_default_str();
    app.add_option("--peer", doctor_.peer, "of the peers, check this one only")
        ->type_name("PEER")
        ->check(check_name);
    app.callback([this] { into_.command = doctor_; });
  }

  [[nodiscard]] const CLI::App& innermost() const {
    const CLI::App* app = &app_;
    while (!app->get_subcommands().empty()) app = app->get_subcommands().front();
    return *app;
  }

  static std::string path_of(const CLI::App& app) {
    return (app.get_parent() != nullptr ? path_of(*app.get_parent()) + " " : "") + app.get_name();
  }

  Arguments& into_;
  CLI::App app_{"Keeps virtual machines running when their host dies.", "tandem"};
  std::string socket_, vm_;
  std::vector<std::string> settings_;
  std::string top_sort_{to_string(TopColumn::name)};
  StatusCommand status_;
  EventsCommand events_;
  ProtectCommand protect_;
  PolicyCommand policy_;
  ModeCommand mode_;
  TopCommand top_;
  RecordCommand record_;
  ReplayCommand replay_;
  TraceCommand trace_;
  DoctorCommand doctor_;
};

}  // namespace

Result<Arguments> parse_arguments(const std::vector<std::string>& words,
                                  const std::string& socket_of_environment) {
  Arguments arguments;
  if (auto demo = demo_command(words)) {
    arguments.command = std::move(*demo);
    return arguments;
  }
  Parser parser(arguments);
  const auto parsed = parser.parse(words, socket_of_environment);
  if (!parsed) return parsed.error();
  return arguments;
}

bool wants_json(const std::vector<std::string>& words) {
  return std::ranges::find(words, "--json") != words.end();
}

}  // namespace tandem::cli
