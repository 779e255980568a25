#include "engine/cli/commands.hpp"

#include <algorithm>
#include <chrono>
#include <future>
#include <thread>

#include "engine/cli/format.hpp"
#include "engine/cli/output.hpp"

namespace tandem::cli {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using std::chrono::steady_clock;

// A large VM on a slow network.
constexpr auto protect_limit = std::chrono::milliseconds(24h);
constexpr auto watch_interval = 1s;
constexpr auto progress_interval = 250ms;
constexpr auto long_poll = 10'000ms;
constexpr auto absence_max = 60s;
constexpr auto absence_retry = 200ms;

std::string events_path(std::uint64_t after, std::chrono::milliseconds wait) {
  return "/v1/events?after=" + std::to_string(after) + "&wait_ms=" + std::to_string(wait.count());
}

Result<json> get_status(const Connection& connection, const std::string& vm) {
  return get(connection, vm.empty() ? "/v1/status" : vm_path(vm));
}

/// The answer as lines: of a host, or of one VM.
std::vector<std::string> lines_of(const json& status, bool one_vm) {
  return one_vm ? vm_lines(status) : status_lines(status);
}

/// A screenful that takes the place of the one before, without flicker.
std::string screen(std::vector<std::string> lines) {
  const auto size = terminal_size();
  if (lines.size() >= size.rows) lines.resize(size.rows - 1);
  std::string text = "\x1b[H";
  for (const auto& line : lines) text += truncate(line, size.columns) + "\x1b[K\n";
  return text + "\x1b[J";
}

std::string now_text() {
  const std::chrono::duration<double> now = std::chrono::system_clock::now().time_since_epoch();
  return format_time(now.count());
}

void show_watched(const Connection& connection, const Result<json>& status, bool one_vm) {
  const bool terminal = stdout_is_terminal();
  if (!status) {
    const auto message = printable(status.error().message);
    if (connection.json) {
      write_out(dump(error_json(status.error())) + "\n");
    } else if (terminal) {
      write_out(screen({now_text(), "", message}));
    } else {
      write_error("tandem: " + message + "\n");
    }
  } else if (connection.json) {
    write_out(dump(*status) + "\n");
  } else if (terminal) {
    auto lines = lines_of(*status, one_vm);
    lines.insert(lines.begin(), {now_text(), ""});
    write_out(screen(std::move(lines)));
  } else {
    std::string text;
    const auto vms = one_vm ? json::array({*status}) : status->value("vms", json::array());
    for (const auto& vm : vms) text += now_text() + "  " + vm_summary(vm) + "\n";
    if (vms.empty()) text = now_text() + "  no VM is defined or running on this host\n";
    write_out(text);
  }
}

const json& events_of(const json& answer) {
  static const json none = json::array();
  const auto found = answer.is_object() ? answer.find("events") : answer.end();
  return found != answer.end() && found->is_array() ? *found : none;
}

double time_of(const json& event) {
  const auto found = event.is_object() ? event.find("time") : event.end();
  return found != event.end() && found->is_number() ? found->get<double>() : 0;
}

void print_event(const json& event, bool as_json) {
  write_out((as_json ? dump(event) : event_line(event)) + "\n");
}

/// Draws the progress of a synchronisation on a terminal's last line.
class Progress {
 public:
  Progress(const Connection& connection, std::string vm)
      : connection_(connection), vm_(std::move(vm)), shown_(stderr_is_terminal()) {
    if (!shown_) return;
    if (const auto answer = get(connection_, "/v1/events")) after_ = number_at(*answer, "next", 0);
  }
  ~Progress() { clear(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void update() {
    if (!shown_) return;
    if (const auto answer = get(connection_, events_path(after_, 0ms))) {
      for (const auto& event : events_of(*answer)) {
        if (event.is_object() && event.value("vm", json()) == vm_) {
          write_error("\r\x1b[K" + event_line(event) + "\n");
        }
      }
      after_ = number_at(*answer, "next", after_);
    }
    if (const auto vm = get(connection_, vm_path(vm_)); vm && vm->is_object()) {
      const std::chrono::duration<double, std::milli> since = steady_clock::now() - begin_;
      const auto sent = vm->value("wire_bytes", json());
      std::string text = vm_ + ": ";
      text += vm->value("state", json()).is_string() ? (*vm)["state"].get<std::string>() : "?";
      if (sent.is_number_unsigned())
        text += ", " + format_bytes(sent.get<std::uint64_t>()) + " sent";
      text += ", " + format_milliseconds(since.count());
      write_error("\r\x1b[K" + truncate(printable(text), terminal_size().columns - 1));
    }
  }

 private:
  void clear() {
    if (shown_) write_error("\r\x1b[K");
  }

  const Connection& connection_;
  std::string vm_;
  bool shown_;
  std::uint64_t after_ = 0;
  steady_clock::time_point begin_ = steady_clock::now();
};

}  // namespace

int show_status(const Connection& connection, const std::string& vm) {
  const auto status = get_status(connection, vm);
  if (!status) return fail(status.error(), connection.json);
  if (connection.json) {
    print_json(*status);
  } else {
    print_lines(lines_of(*status, !vm.empty()));
  }
  return exit_done;
}

int watch_status(const Connection& connection, const std::string& vm) {
  end_on_interrupt();
  auto status = get_status(connection, vm);
  if (!status) return fail(status.error(), connection.json);
  if (stdout_is_terminal() && !connection.json) write_out("\x1b[2J");
  auto next = steady_clock::now();
  for (;;) {
    show_watched(connection, status, !vm.empty());
    next = std::max(next + watch_interval, steady_clock::now());
    std::this_thread::sleep_until(next);
    status = get_status(connection, vm);
  }
}

int show_events(const Connection& connection, std::uint64_t after) {
  const auto answer = get(connection, events_path(after, 0ms));
  if (!answer) return fail(answer.error(), connection.json);
  if (connection.json) {
    print_json(*answer);
  } else {
    for (const auto& event : events_of(*answer)) print_event(event, false);
  }
  return exit_done;
}

int follow_events(const Connection& connection, std::uint64_t after) {
  end_on_interrupt();
  // A daemon that was started again numbers its events from 1; what is older than the last event
  // shown has been shown.
  double shown_until = 0;
  bool answered = false;
  bool restarted = false;
  auto heard = steady_clock::now();
  for (;;) {
    const auto answer = get(connection, events_path(after, long_poll), long_poll + answer_limit);
    if (answer) {
      for (const auto& event : events_of(*answer)) {
        if (restarted && time_of(event) <= shown_until) continue;
        print_event(event, connection.json);
        shown_until = std::max(shown_until, time_of(event));
      }
      after = number_at(*answer, "next", after);
      answered = true;
      restarted = false;
      heard = steady_clock::now();
      continue;
    }
    if (!answered || steady_clock::now() - heard > absence_max) {
      return fail(answer.error(), connection.json);
    }
    if (!restarted)
      write_error("tandem: " + printable(answer.error().message) + "; waiting for it\n");
    restarted = true;
    after = 0;
    std::this_thread::sleep_for(absence_retry);
  }
}

int list_vms(const Connection& connection) {
  const auto status = get(connection, "/v1/status");
  if (!status) return fail(status.error(), connection.json);
  if (connection.json) {
    print_json(status->is_object() ? status->value("vms", json::array()) : json::array());
  } else {
    print_lines(vm_list_lines(*status));
  }
  return exit_done;
}

int change_vm(const Connection& connection, const std::string& vm, const std::string& action) {
  std::string message = vm + " is running";
  if (action == "stop") message = vm + " is stopped";
  if (action == "unprotect") message = vm + " goes on without protection";
  if (action == "failover") message = vm + " goes on on its peer";
  return report_vm(connection,
                   post(connection, vm_path(vm) + "/" + action, json::object(), change_limit),
                   message);
}

int protect_vm(const Connection& connection, const std::string& vm, const std::string& peer,
               const PolicyChange& choice) {
  auto body = to_json(choice);
  body["peer"] = peer;
  const auto answer = [&] {
    Progress progress(connection, vm);
    auto posted = std::async(std::launch::async, [&] {
      return post(connection, vm_path(vm) + "/protect", body, protect_limit);
    });
    do {
      progress.update();
    } while (posted.wait_for(progress_interval) != std::future_status::ready);
    progress.update();
    return posted.get();
  }();
  return report_vm(connection, answer, vm + " is protected by " + peer);
}

}  // namespace tandem::cli
