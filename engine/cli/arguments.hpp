// The command line of `tandem`, parsed. docs/man/tandem.1 describes it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <variant>
#include <vector>

#include "base/error.hpp"
#include "engine/cli/policy_change.hpp"
#include "engine/cli/top_frame.hpp"

namespace tandem::cli {

struct StatusCommand {
  std::string vm;  ///< empty: all
  bool watch = false;
};
struct EventsCommand {
  bool follow = false;
  std::uint64_t after = 0;
};
struct ListCommand {};
struct ChangeCommand {
  std::string vm, action;  ///< as the API calls it: "start", "stop", "unprotect", "failover"
};
struct ModeCommand {
  std::string vm, mode;
};
struct TraceCommand {
  std::string vm;
  std::string file;           ///< of pcapng; "-": standard output; empty: JSON lines
  std::uint64_t seconds = 0;  ///< 0: until interrupted
};
struct ProtectCommand {
  std::string vm, peer;
  PolicyChange choice;  ///< what it leaves out is as the daemon's configuration says
};
struct PolicyCommand {
  std::string vm;
  PolicyChange change;  ///< empty: show it
};
struct RecordCommand {
  std::string vm;
  std::string file;           ///< "-": standard output
  std::uint64_t seconds = 0;  ///< 0: until interrupted
};
struct ReplayCommand {
  std::string file;        ///< "-": standard input
  PolicyChange otherwise;  ///< empty: as it was recorded
};
struct TopCommand {
  std::vector<std::string> vms;  ///< empty: all
  double interval_s = 2;
  bool once = false;
  TopColumn sort = TopColumn::name;
};
struct DoctorCommand {
  std::filesystem::path config;
  std::string peer;  ///< empty: all
};
struct DemoCommand {
  std::vector<std::string> arguments;  ///< tandem-demo's own, untouched
};
/// Text that was asked for (--help, --version).
struct ShowCommand {
  std::string text;
};

using Command = std::variant<StatusCommand, EventsCommand, ListCommand, ChangeCommand, ModeCommand,
                             PolicyCommand, TraceCommand, RecordCommand, ReplayCommand, TopCommand,
                             ProtectCommand, DoctorCommand, DemoCommand, ShowCommand>;

struct Arguments {
  std::filesystem::path socket;
  bool json = false;
  Command command;
};

/// `words` without the program's name; `socket_of_environment`: $TANDEM_SOCKET, empty if unset.
/// Errc::invalid_input says which word is wrong and what was expected. Pure.
Result<Arguments> parse_arguments(const std::vector<std::string>& words,
                                  const std::string& socket_of_environment);

/// Whether an answer in JSON was asked for; also for a command line that is wrong otherwise.
bool wants_json(const std::vector<std::string>& words);

}  // namespace tandem::cli
