// The secondary's side of a pair, carried out: checkpoints come in whole, are verified,
// acknowledged and fed to the secondary QEMU, which stays stopped in between; when the primary is
// gone, the VM goes on here.
//
// All decisions are secondary_machine's.
#pragma once

#include <boost/asio/posix/stream_descriptor.hpp>
#include <map>
#include <memory>
#include <optional>

#include "base/nursery.hpp"
#include "base/signal.hpp"
#include "engine/checkpoint/buffer.hpp"
#include "engine/session/input_queue.hpp"
#include "engine/session/net_channel.hpp"
#include "engine/session/peer_link.hpp"
#include "engine/session/secondary_machine.hpp"
#include "engine/session/session.hpp"

namespace tandem::session {

class SecondarySession {
 public:
  SecondarySession(asio::any_io_executor executor, PairSettings settings, Lanes lanes, VmControl vm,
                   arbiter::Arbiter& arbiter, Observer observer);

  /// The VM's QEMU waits with `-incoming defer`. Returns when the pair has ended.
  Task<FinishSecondary> run();

  /// QEMU's monitor is gone or its process has ended.
  void vm_lost(Error error);
  /// Protection ends from this side: the primary goes on alone.
  void leave(std::string reason);

  [[nodiscard]] const SecondaryMachine& machine() const noexcept { return machine_; }
  [[nodiscard]] SessionCounters counters() const;
  [[nodiscard]] const std::vector<NetChannel::Pointer>& channels() const { return channels_; }
  /// Once run() has returned: the channels of a promoted VM that translate connections, for the
  /// VM's owner to serve.
  std::vector<NetChannel::Pointer> take_channels() { return std::move(channels_); }
  [[nodiscard]] const InputCounters& input() const noexcept { return input_.counters(); }
  [[nodiscard]] const std::optional<FailoverTimes>& failover() const { return failover_.times(); }

 private:
  void dispatch(const SecondaryEvent& event);
  void perform(const TellPeer& action);
  void perform(const FeedRequest&);
  void perform(const Feed& action);
  void perform(const QuietInput& action);
  void perform(const EndEpoch&);
  void perform(const BeginSecondaryEpoch& action);
  void perform(const CloseLanes&);
  void perform(const Claim& action);
  void perform(const StartLoadTimer&);
  void perform(const Promote& action);
  void perform(const Announce&);
  void perform(const KillVm&);
  void perform(const FinishSecondary& action);

  Task<void> start();
  Task<Result<void>> start_incoming();
  Task<void> read_bulk();
  Task<Result<void>> receive_bulk();
  Task<Result<void>> receive_checkpoint(wire::FrameHeader header);
  Task<Result<void>> receive_translations(wire::FrameHeader header);
  Task<void> read_svm();
  Task<Result<void>> receive_svm();
  Task<Result<void>> forward_return_path();
  Task<Result<void>> hear(Frame frame);
  Task<Result<void>> attach_channels();
  [[nodiscard]] NetChannel::Handlers channel_handlers(std::size_t nic);
  Result<void> hear_packets(const Frame& frame);
  void feed_input();
  Task<void> quiet_input(bool rest);
  Task<void> watch_svm();
  Task<void> give_up(Error error);
  Task<void> feed(Feed action);
  Task<void> claim(Claim action);
  Task<void> watch_load();
  Task<void> promote(Promote action);
  void connect_network();
  Task<void> announce();
  Task<void> kill_vm();

  void peer_lost(Error error);
  void note_loss(const std::string& reason);
  void close_stream();

  asio::any_io_executor executor_;
  PairSettings settings_;
  VmControl vm_;
  arbiter::Arbiter& arbiter_;
  Observer observer_;
  SecondaryMachine machine_;
  PeerLink peer_;
  Nursery nursery_;
  Signal changed_;  ///< any state that a coroutine here may wait for

  asio::posix::stream_descriptor stream_;
  std::vector<NetChannel::Pointer> channels_;
  InputQueue input_;
  Checkpoint epoch_ = 0;  ///< of what the VM outputs
  bool feeding_ = false;  ///< the VM takes the input of epoch_
  std::shared_ptr<checkpoint::BufferPool> buffers_;
  /// Committed and not yet loaded.
  struct Whole {
    checkpoint::BufferPool::Lease buffer;
    std::vector<proxy::TranslationTable> translations;  ///< one a channel
  };
  std::map<Checkpoint, Whole> whole_;
  std::vector<proxy::TranslationTable> translations_;  ///< of the checkpoint that is coming in

  bool announcing_ = false;
  SessionCounters counters_;
  FailoverWatch failover_;
  std::optional<FinishSecondary> finished_;
};

}  // namespace tandem::session
