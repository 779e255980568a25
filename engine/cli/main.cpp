// tandem: the command line of Tandem. See docs/man/tandem.1.
#include <cstdlib>

#include "engine/cli/arguments.hpp"
#include "engine/cli/commands.hpp"
#include "engine/cli/demo_command.hpp"
#include "engine/cli/doctor.hpp"
#include "engine/cli/format.hpp"
#include "engine/cli/output.hpp"
#include "engine/cli/policy_command.hpp"
#include "engine/cli/record_command.hpp"
#include "engine/cli/replay_command.hpp"
#include "engine/cli/top_command.hpp"
#include "engine/cli/trace_command.hpp"

namespace tandem::cli {
namespace {

class Runner {
 public:
  explicit Runner(const Arguments& arguments) : connection_{arguments.socket, arguments.json} {}

  int operator()(const StatusCommand& status) const {
    return status.watch ? watch_status(connection_, status.vm)
                        : show_status(connection_, status.vm);
  }
  int operator()(const EventsCommand& events) const {
    return events.follow ? follow_events(connection_, events.after)
                         : show_events(connection_, events.after);
  }
  int operator()(const ListCommand&) const { return list_vms(connection_); }
  int operator()(const ChangeCommand& change) const {
    return change_vm(connection_, change.vm, change.action);
  }
  int operator()(const PolicyCommand& policy) const {
    return policy.change.empty() ? show_policy(connection_, policy.vm)
                                 : change_policy(connection_, policy.vm, policy.change);
  }
  int operator()(const ModeCommand& mode) const {
    return set_mode(connection_, mode.vm, mode.mode);
  }
  int operator()(const TopCommand& top) const {
    const std::chrono::duration<double> interval(top.interval_s);
    return show_top(connection_, {top.vms, std::chrono::round<std::chrono::milliseconds>(interval),
                                  top.once, top.sort});
  }
  int operator()(const RecordCommand& record) const {
    return record_vm(connection_, {record.vm, record.file, std::chrono::seconds(record.seconds)});
  }
  int operator()(const ReplayCommand& replay) const {
    return replay_file(replay.file, replay.otherwise, connection_.json);
  }
  int operator()(const TraceCommand& trace) const {
    return trace_vm(connection_, {trace.vm, trace.file, std::chrono::seconds(trace.seconds)});
  }
  int operator()(const ProtectCommand& protect) const {
    return protect_vm(connection_, protect.vm, protect.peer, protect.choice);
  }
  int operator()(const DoctorCommand& doctor) const {
    const auto checks = examine({doctor.config, connection_.socket, doctor.peer});
    if (connection_.json) {
      print_json(to_json(checks));
    } else {
      print_lines(check_lines(checks));
    }
    return any_error(checks) ? exit_failed : exit_done;
  }
  int operator()(const DemoCommand& demo) const {
    return fail(run_demo(demo.arguments), connection_.json);
  }
  int operator()(const ShowCommand& show) const {
    write_out(show.text);
    return exit_done;
  }

 private:
  Connection connection_;
};

}  // namespace
}  // namespace tandem::cli

int main(int argc, char** argv) {
  using namespace tandem::cli;
  const std::vector<std::string> words(argv + std::min(argc, 1), argv + argc);
  const char* socket = std::getenv("TANDEM_SOCKET");
  const auto arguments = parse_arguments(words, socket != nullptr ? socket : "");
  if (!arguments) {
    fail(arguments.error(), wants_json(words));
    return exit_usage;
  }
  return std::visit(Runner(*arguments), arguments->command);
}
