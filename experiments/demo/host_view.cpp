#include "experiments/demo/host_view.hpp"

#include <signal.h>

#include <cerrno>

#include "experiments/demo/failover_times.hpp"

namespace tandem::demo {
namespace {

constexpr std::chrono::milliseconds kStatusTimeout{300};

Result<void> destroy(world::Host& host) {
  if (auto cut = host.cut_links(); !cut) return cut;
  return host.kill_everything();
}

}  // namespace

std::string HostView::role() const {
  return text_at(vm, "/role");
}

std::string HostView::state() const {
  return text_at(vm, "/state");
}

bool HostView::serves() const {
  const bool role_serves = role() == "solo" || role() == "primary";
  const bool state_serves =
      state() == "running" || state() == "synchronising" || state() == "protected";
  return role_serves && state_serves;
}

bool HostView::stands_still() const {
  return role().empty() || role() == "none" || role() == "secondary" || state() == "stopped" ||
         state() == "failed";
}

std::string HostView::describe() const {
  if (!answers) return "nothing (its daemon does not answer)";
  if (role().empty()) return "no such VM";
  return "role \"" + role() + "\", state \"" + state() + "\"";
}

HostView look_at(world::Host& host, const std::string& vm) {
  HostView view;
  if (host.daemon() == nullptr || !host.daemon()->running()) return view;
  const auto answer = host.api().get("/v1/vms/" + vm, kStatusTimeout);
  if (answer) {
    view.answers = true;
    view.vm = *answer;
  } else if (answer.error().code == Errc::not_found) {
    view.answers = true;  // it knows no such VM
  }
  return view;
}

Result<Target> take_aim(world::Host& primary, world::Host& secondary, const std::string& vm) {
  const auto status = primary.api().get("/v1/status", kStatusTimeout);
  if (!status) return status.error();
  const auto view = look_at(primary, vm);
  Target target{&primary, &secondary, 0, 0};
  target.worker = static_cast<pid_t>(count_at(*status, "/worker_pid").value_or(0));
  target.qemu = static_cast<pid_t>(count_at(view.vm, "/qemu_pid").value_or(0));
  if (view.state() != "protected")
    return Error{Errc::conflict, "the VM was not protected any more before anything was killed: " +
                                     primary.name() + " reports \"" + view.state() + "\""};
  if (target.worker <= 1)
    return Error{Errc::protocol, primary.name() + " does not report its worker's pid"};
  if (target.qemu <= 1)
    return Error{Errc::protocol, primary.name() + " does not report its QEMU's pid"};
  return target;
}

Result<std::string> strike(const Target& target, KillKind kind, bool hang) {
  const auto& primary = target.primary->name();
  const auto& secondary = target.secondary->name();
  std::string what;
  Result<void> done;
  switch (kind) {
    case KillKind::primary_qemu:
      what = "kill -9 of the VM's QEMU on " + primary;
      if (::kill(target.qemu, SIGKILL) != 0) done = system_error("cannot kill QEMU", errno);
      break;
    case KillKind::primary_host:
      what = "host " + primary + " is gone: cables cut, then kill -9 of everything on it";
      done = destroy(*target.primary);
      break;
    case KillKind::secondary_host:
      what = "host " + secondary + " is gone: cables cut, then kill -9 of everything on it";
      done = destroy(*target.secondary);
      break;
    case KillKind::primary_daemon:
      what = hang ? "tandemd on " + primary + " hangs (SIGSTOP of its worker)"
                  : "tandemd on " + primary + " dies (kill -9 of its worker)";
      if (::kill(target.worker, hang ? SIGSTOP : SIGKILL) != 0)
        done = system_error("cannot signal the worker of tandemd", errno);
      break;
  }
  if (!done) return done.error();
  return what;
}

std::vector<std::string> witness_problems(const world::FrameWitness::Sighting& survivor,
                                          const std::string& survivor_name,
                                          const world::FrameWitness::Sighting& other,
                                          const std::string& other_name, bool primary_survives) {
  std::vector<std::string> problems;
  if (survivor.frames == 0) problems.push_back("no frame of the VM came from " + survivor_name);
  // The primary's last frames before a takeover are legitimate; the secondary may not send any.
  if (other.frames > 0 && (primary_survives || (survivor.first && *other.last >= *survivor.first)))
    problems.push_back("two VMs answered: " + other_name + " sent frames although " +
                       survivor_name + " runs the VM");
  return problems;
}

}  // namespace tandem::demo
