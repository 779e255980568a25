#include "engine/session/pacer.hpp"

#include <algorithm>

namespace tandem::session {
namespace {

using namespace std::chrono_literals;

/// QEMU overhears a wish for a checkpoint that comes while it enters COLO or is at another one.
constexpr auto ask_again = 500ms;
constexpr auto never = asio::steady_timer::time_point::max();

}  // namespace

Pacer::Pacer(const asio::any_io_executor& executor, controller::Policy policy,
             const controller::Parameters& parameters)
    : controller_(policy, parameters), log_(controller_), due_(executor, never) {}

void Pacer::vm_runs(std::uint64_t page_bytes) {
  const auto now = Clock::now();
  // Before the first checkpoint nothing has paused the VM but its synchronisation.
  if (stops_ > 0) {
    pause_ = now - stopped_at_;
    cycle_ = now - ran_at_;
  }
  unseen_ = Seconds(0);
  ran_at_ = now;
  page_bytes_ = page_bytes;
  vm_is_running_ = true;
  // Before the first checkpoint, and after a change of policy while the VM was stopped.
  if (controller_.last().mode != mode_) wanted_ = true;
  set_due();
}

void Pacer::vm_was_stopped(Seconds pause) {
  if (!vm_is_running_ || stops_ == 0) return;
  // QEMU's stamps are of the wall clock. If that was set meanwhile, they tell of no pause.
  if (pause < pause_ || pause > cycle_ + (Clock::now() - ran_at_)) return;
  unseen_ = pause - pause_;
}

void Pacer::set_due() {
  const auto period =
      std::chrono::duration_cast<Clock::duration>(Seconds(controller_.last().due_s));
  due_.expires_at(wanted_ ? Clock::now() : ran_at_ + period);
}

Mode Pacer::vm_stopped(Checkpoint epoch) {
  stopped_at_ = Clock::now();
  ++stops_;
  vm_is_running_ = false;
  wanted_ = false;
  due_.expires_at(never);
  const controller::Observation cycle{
      .time_s = Seconds(stopped_at_.time_since_epoch()).count(),
      .mode = mode_,
      .pause_s = (pause_ + unseen_).count(),
      .uptime_s = std::max(0.0, Seconds(stopped_at_ - ran_at_ - unseen_).count()),
      .bytes = page_bytes_,
      .mismatches = mismatches_,
  };
  mismatches_ = 0;
  mode_ = controller_.decide(cycle).mode;
  log_.add(std::chrono::system_clock::now(), epoch, cycle, controller_);
  return mode_;
}

void Pacer::want_checkpoint() {
  if (wanted_) return;
  wanted_ = true;
  if (vm_is_running_) set_due();
}

void Pacer::mismatched() {
  ++mismatches_;
  want_checkpoint();
}

void Pacer::change(controller::Policy policy, const controller::Parameters& parameters) {
  controller_.change(policy, parameters);
  log_.add_change(std::chrono::system_clock::now(), policy, parameters);
  if (!vm_is_running_) return;
  if (controller_.last().mode != mode_) {
    want_checkpoint();
  } else if (!wanted_) {
    set_due();
  }
}

Task<void> Pacer::run(std::function<Task<void>()> ask) {
  while (!stopped_) {
    const auto [waited] = co_await due_.async_wait(use_tuple);
    // Nobody waits any more, or it is due at another time, which may have been set when the timer
    // had fired already.
    if (waited || stopped_ || Clock::now() < due_.expiry()) continue;
    const auto stops = stops_;
    wanted_ = true;
    due_.expires_at(never);
    co_await ask();
    if (stops_ == stops && !stopped_) due_.expires_after(ask_again);
  }
}

void Pacer::stop() {
  stopped_ = true;
  due_.cancel();
}

}  // namespace tandem::session
