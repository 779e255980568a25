// When a pair takes its next checkpoint, and in which mode it runs until then: measures each cycle
// of the primary VM, lets the controller decide, and asks QEMU in time.
#pragma once

#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <functional>

#include "base/asio.hpp"
#include "controller/controller.hpp"
#include "engine/control/decision_log.hpp"
#include "engine/session/machine.hpp"

namespace tandem::session {

class Pacer {
 public:
  Pacer(const asio::any_io_executor& executor, controller::Policy policy,
        const controller::Parameters& parameters);

  /// The VM runs: after its synchronisation, and after each checkpoint, which had so many bytes of
  /// pages.
  void vm_runs(std::uint64_t page_bytes);
  /// What QEMU says of the pause that has just ended, from its event STOP to its event RESUME. It
  /// comes a moment after vm_runs(), and may not come at all.
  void vm_was_stopped(std::chrono::duration<double> pause);
  /// The VM is stopped for a checkpoint: decides how the epoch that begins with it is run.
  Mode vm_stopped(Checkpoint epoch);

  /// A checkpoint is wanted now, whenever the next one is due.
  void want_checkpoint();
  /// The same, because the VMs' outputs differ.
  void mismatched();
  /// One has been asked for and has not begun.
  [[nodiscard]] bool checkpoint_wanted() const noexcept { return wanted_; }

  /// From the next checkpoint on; takes one at once if the mode is to change.
  void change(controller::Policy policy, const controller::Parameters& parameters);

  /// Calls `ask` whenever a checkpoint is due, and again while none begins. Until stop().
  Task<void> run(std::function<Task<void>()> ask);
  void stop();

  [[nodiscard]] const controller::Controller& controller() const noexcept { return controller_; }
  [[nodiscard]] const control::DecisionLog& log() const noexcept { return log_; }

 private:
  using Clock = std::chrono::steady_clock;
  using Seconds = std::chrono::duration<double>;

  void set_due();

  controller::Controller controller_;
  control::DecisionLog log_;
  asio::steady_timer due_;
  bool stopped_ = false;

  bool vm_is_running_ = false;
  bool wanted_ = false;
  std::uint64_t stops_ = 0;
  Mode mode_ = Mode::periodic;  ///< of the present epoch
  Clock::time_point ran_at_, stopped_at_;
  Seconds pause_{0};   ///< of the checkpoint that the present epoch began with, as it was seen here
  Seconds unseen_{0};  ///< what QEMU says that it lasted beyond that
  Seconds cycle_{0};   ///< from the end of the pause before to the end of the latest
  std::uint64_t page_bytes_ = 0;
  std::uint64_t mismatches_ = 0;
};

}  // namespace tandem::session
