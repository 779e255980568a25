// The primary's side of a pair, carried out: a relay between the primary QEMU's COLO stream and the
// peer.
//
// All decisions are primary_machine's. This shell reads and writes, on one thread. Its page path is
// one recv() from QEMU into a checkpoint buffer and, once QEMU has its answer, one send() to the
// peer.
#pragma once

#include <boost/asio/posix/stream_descriptor.hpp>
#include <chrono>
#include <deque>
#include <memory>
#include <optional>

#include "base/nursery.hpp"
#include "base/signal.hpp"
#include "engine/checkpoint/buffer.hpp"
#include "engine/colo/stream_parser.hpp"
#include "engine/session/input_queue.hpp"
#include "engine/session/mismatch_log.hpp"
#include "engine/session/net_channel.hpp"
#include "engine/session/pacer.hpp"
#include "engine/session/peer_link.hpp"
#include "engine/session/primary_machine.hpp"
#include "engine/session/session.hpp"
#include "engine/session/trace_buffer.hpp"

namespace tandem::session {

class PrimarySession {
 public:
  PrimarySession(asio::any_io_executor executor, PairSettings settings, Lanes lanes, VmControl vm,
                 arbiter::Arbiter& arbiter, Observer observer);

  /// Protects the VM: sends `setup` (JSON for the peer's daemon), synchronises, replicates, until
  /// the pair ends one way or another. Whatever the outcome, but for a VM that is lost, no filter
  /// stays in QEMU.
  Task<FinishPrimary> run(std::string setup);

  /// Resolves once the pair is protected, or with the reason why it never was.
  Task<Result<void>> wait_until_protected();

  /// Lets this policy decide from the next checkpoint on, and asks for that at once if the mode is
  /// to change. Returns when that has begun; Errc::conflict if the VM is not protected, ::timed_out
  /// if no checkpoint comes.
  Task<Result<void>> set_policy(controller::Policy policy, controller::Parameters parameters);
  void unprotect();
  void switch_over();
  /// What was compared after record `after`, as docs/api.md has it. Recording begins with the first
  /// call, and ends a while after the last.
  nlohmann::json read_trace(std::uint64_t after);
  /// QEMU's monitor is gone or its process has ended.
  void vm_lost(Error error);
  void vm_shut_down();
  /// QEMU says that the VM runs again, and for how long it was stopped.
  void vm_resumed(std::chrono::duration<double> pause) { pacer_.vm_was_stopped(pause); }

  [[nodiscard]] const PrimaryMachine& machine() const noexcept { return machine_; }
  [[nodiscard]] SessionCounters counters() const;
  [[nodiscard]] const std::vector<NetChannel::Pointer>& channels() const { return channels_; }
  /// Once run() has returned: the channels that still translate connections, for the VM's owner to
  /// serve.
  std::vector<NetChannel::Pointer> take_channels() { return std::move(channels_); }
  [[nodiscard]] const Pacer& pacer() const noexcept { return pacer_; }
  [[nodiscard]] const MismatchLog& mismatches() const noexcept { return mismatches_; }
  [[nodiscard]] const InputCounters& input() const noexcept { return input_; }
  [[nodiscard]] const std::optional<FailoverTimes>& failover() const { return failover_.times(); }

 private:
  void dispatch(const PrimaryEvent& event);
  void perform(const AnswerReady&);
  void perform(const AnswerReply&);
  void perform(const AnswerCheckpoint&);
  void perform(const HoldOutput&);
  void perform(const CloseEpoch& action);
  void perform(const BeginEpoch& action);
  void perform(const SecondaryEntered&);
  void perform(const ReleaseThrough& action);
  void perform(const Ship& action);
  void perform(const TriggerCheckpoint&);
  void perform(const TellPeer& action);
  void perform(const CloseLanes&);
  void perform(const Claim& action);
  void perform(const RunAlone&);
  void perform(const OpenGate&);
  void perform(const KillVm&);
  void perform(const FinishPrimary& action);

  Task<void> start(std::string setup);
  Task<Result<void>> attach_channels();
  [[nodiscard]] NetChannel::Handlers channel_handlers(std::size_t nic);
  void send_input(std::size_t nic, Checkpoint epoch, proxy::FrameSpan frames);
  void mismatched(const proxy::Mismatch& mismatch);
  void start_trace();
  void trace_input(std::size_t nic, proxy::FrameSpan frames);
  void end_trace_if_unread();
  Result<void> hear_packets(const Frame& frame);
  Task<void> watch_comparison();
  Task<Result<void>> start_mirrors();
  Task<void> stop_mirrors();
  void tell_mode();
  Task<Result<void>> start_migration(std::string setup);
  Task<void> watch_synchronisation();
  Task<void> read_stream();
  /// A connection to QEMU failed: ends the pair unless it is QEMU that has ended.
  Task<void> end_if_vm_lives(Error error);
  Task<Result<void>> forward_initial_stream();
  Task<Result<void>> relay_checkpoints();
  Task<Result<std::size_t>> receive_some(std::span<std::byte> into);
  struct Shipment;
  Task<Result<void>> send_translations(const Shipment& shipment);
  Task<void> ship_checkpoints();
  Task<Result<void>> hear(Frame frame);
  Task<void> claim(Claim action);
  Task<void> run_alone();
  Task<void> open_gate();
  Task<void> kill_vm();
  Task<void> ask_for_checkpoint();

  void answer_vm(std::initializer_list<colo::Message> messages);
  void tell_commit();
  void peer_lost(Error error);
  void close_stream();

  asio::any_io_executor executor_;
  PairSettings settings_;
  VmControl vm_;
  arbiter::Arbiter& arbiter_;
  Observer observer_;
  PrimaryMachine machine_;
  Pacer pacer_;
  PeerLink peer_;
  Nursery nursery_;
  Signal changed_;  ///< any state that a coroutine here may wait for

  asio::posix::stream_descriptor stream_;
  std::vector<NetChannel::Pointer> channels_;
  /// R4: between CHECKPOINT_REQUEST and the end of its epoch a client's packet may come into either
  /// epoch, and so goes into both.
  bool in_window_ = false;
  struct WindowPackets {
    std::vector<std::byte> bytes;
    std::size_t count = 0;
  };
  std::vector<WindowPackets> window_;  ///< one a channel
  InputCounters input_;
  /// What is captured and mirrored belongs to: the machine is ahead of it while it closes an epoch.
  Checkpoint epoch_ = 0;
  Mode epoch_mode_ = Mode::periodic;
  bool closing_epoch_ = false;
  bool mirrors_wanted_ = false;  ///< the policy, or the one that is about to decide, may need them
  bool mirrors_changing_ = false;
  MismatchLog mismatches_;
  TraceBuffer trace_;
  std::vector<std::vector<std::byte>> translations_sent_;  ///< one a channel
  std::shared_ptr<checkpoint::BufferPool> buffers_;
  checkpoint::BufferPool::Lease receiving_;  ///< the checkpoint that is coming in
  bool vm_is_paused_ = false;  ///< from SEND to the end of its checkpoint: sending waits
  struct Shipment {
    Checkpoint number;
    Mode mode;
    checkpoint::BufferPool::Lease buffer;
    std::vector<std::vector<std::byte>> translations;  ///< one a channel
  };
  std::deque<Shipment> shipments_;
  /// When the VM was stopped for those that are not committed, oldest first.
  std::deque<std::chrono::steady_clock::time_point> stopped_at_;

  bool setup_done_ = false;
  bool ready_answered_ = false;
  std::uint64_t checkpoint_page_bytes_ = 0;  ///< of the newest whole checkpoint
  bool opening_ = false;
  SessionCounters counters_;
  FailoverWatch failover_;
  std::optional<FinishPrimary> finished_;
};

}  // namespace tandem::session
