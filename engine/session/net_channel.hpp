// The network filters of one NIC: the sockets to QEMU's chardevs, and what stands between them:
// translator, comparer and output gate. R10: the daemon never stops reading what a filter writes,
// for QEMU would freeze.
//
// A channel outlives the pair if it has to: after a failover it goes on translating the connections
// that need it, and may become a primary's channel again.
//
//   filter    queue                        from / to
//   mirror    tx, copies       primary     clients' packets, for the secondary VM
//   intake    tx, takes        secondary   clients' packets, dropped before a failover, translated
//                                          after it
//   feed      tx, puts in      secondary   packets for the VM
//   capture   rx, takes        both        what the VM sends
//   inject    rx, puts in      both        what may leave
#pragma once

#include <boost/asio/posix/stream_descriptor.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/asio.hpp"
#include "base/error.hpp"
#include "engine/session/machine.hpp"
#include "proxy/byte_queue.hpp"
#include "proxy/chardev_framing.hpp"
#include "proxy/comparer.hpp"
#include "proxy/output_gate.hpp"
#include "proxy/translator.hpp"
#include "qmp/client.hpp"

namespace tandem::session {

/// Every object and chardev that Tandem puts into a QEMU has an id that begins so; what a daemon
/// that died has left behind is found by it.
inline constexpr std::string_view object_prefix = "tnd-";

/// What a channel has counted.
struct ChannelCounters {
  proxy::GateCounters gate;
  proxy::CompareCounters compare;
  std::uint64_t dropped_frames = 0;  ///< not by the gate
  std::uint64_t stale_frames = 0;
};

struct ChannelSettings {
  proxy::GateLimits gate;
  proxy::CompareLimits compare;
  /// Told what a channel has counted when that ends: when it closes, or begins anew.
  std::function<void(const ChannelCounters&)> counted{};
};

class NetChannel : public std::enable_shared_from_this<NetChannel> {
 public:
  using Pointer = std::shared_ptr<NetChannel>;

  /// What the owner is told; each may be empty.
  struct Handlers {
    /// A socket ended, or brought what is no frame.
    std::function<void(const Error&)> failed;
    /// Copies of what clients have sent (primary).
    std::function<void(proxy::FrameSpan)> input;
    /// The VM's SYN segments, in the numbers that clients see (primary, colo).
    std::function<void(proxy::FrameSpan)> reference;
    /// What the VM has sent, in the numbers that clients see (secondary, colo).
    std::function<void(proxy::FrameSpan)> output;
    /// The two VMs' outputs differ, or something about them needs a checkpoint (primary, colo).
    std::function<void(const proxy::Mismatch&)> mismatch;
    /// Much output waits (primary).
    std::function<void()> held_much;
    /// The VM has taken what it was fed.
    std::function<void()> fed;
  };

  /// Attach the filters of `netdev` to a running QEMU. After an error nothing is left in QEMU.
  static Task<Result<Pointer>> attach_primary(qmp::Client& qmp, std::string netdev,
                                              ChannelSettings settings);
  static Task<Result<Pointer>> attach_secondary(qmp::Client& qmp, std::string netdev,
                                                ChannelSettings settings);

  /// For a VM that goes on alone with these connections to translate.
  static Task<Result<Pointer>> attach_solo(qmp::Client& qmp, std::string netdev,
                                           const proxy::TranslationTable& table,
                                           ChannelSettings settings);
  ~NetChannel() { end_counting(); }

  /// From now on these handlers are told. The channel reads QEMU's sockets as long as they are
  /// open, whoever listens (R10).
  void serve(Handlers handlers) { handlers_ = std::move(handlers); }
  void stop_serving() { handlers_ = {}; }

  /// This VM is a primary from now on, whose output passes until the gate is told to hold.
  void become_primary(ChannelSettings settings);
  /// The VM goes on without a peer: what is held leaves, and later output passes, translated where
  /// it must be.
  void become_solo();

  // ---- a primary's channel

  /// Copies of clients' packets come through Handlers::input until stop_mirror().
  Task<Result<void>> start_mirror(qmp::Client& qmp);
  Task<Result<void>> stop_mirror(qmp::Client& qmp);
  [[nodiscard]] bool mirrors() const noexcept { return mirror_.socket.is_open(); }

  /// Everything output so far may leave; what comes is held.
  Result<void> hold_output();
  /// R3: the VM is stopped. Takes in what it has output and its clients have sent; all of it
  /// belongs to `epoch`, which is over.
  Result<void> close_epoch(Checkpoint epoch);
  void begin_epoch(Mode mode);
  void release_through(Checkpoint epoch);
  /// The secondary VM runs in the same epoch, and this is what it has sent there.
  void secondary_entered();
  void secondary_sent(proxy::FrameSpan frames);
  /// Looks for what has waited too long. To be called every few ms in colo mode.
  void tick();

  // ---- a secondary's channel

  /// The VM has stopped: takes in what it has output and drops it.
  Result<void> end_epoch();
  /// The VM is about to load a checkpoint with these translations. Whether what it outputs from
  /// then on goes to Handlers::output, or is dropped.
  void load_epoch(const proxy::TranslationTable& table, Mode mode);
  void feed(proxy::FrameSpan frames);
  void reference(proxy::FrameSpan frames);
  /// QEMU has taken everything that was fed.
  [[nodiscard]] bool is_quiet() const;
  /// Fed and not yet written to QEMU, bytes.
  [[nodiscard]] std::size_t feeding() const noexcept { return feed_.queue.size(); }

  // ---- the end

  /// The filters work again; QEMU switches them off when it leaves COLO.
  Task<Result<void>> switch_on(qmp::Client& qmp);
  /// For a VM that goes on alone: takes the filters off in the order that loses and reorders
  /// nothing.
  Task<Result<void>> detach_in_order(qmp::Client& qmp);
  /// Closes the sockets; what QEMU writes is gone from then on.
  void close();

  [[nodiscard]] bool is_attached() const noexcept { return capture_.socket.is_open(); }
  [[nodiscard]] proxy::OutputGate& gate() noexcept { return gate_; }
  [[nodiscard]] const proxy::Comparer& comparer() const noexcept { return comparer_; }
  [[nodiscard]] proxy::Translator& translator() noexcept { return translator_; }
  [[nodiscard]] const std::string& netdev() const noexcept { return netdev_; }
  void trace(proxy::Comparer::Trace trace) { comparer_.trace(std::move(trace)); }
  /// Frames dropped on purpose or for want of room: a secondary VM's output outside colo mode, what
  /// came for it from its own host, what QEMU or the peer did not take.
  [[nodiscard]] std::uint64_t dropped_frames() const noexcept { return dropped_frames_; }
  void count_dropped(std::uint64_t frames) noexcept { dropped_frames_ += frames; }
  /// The secondary VM's frames of an epoch that was over here when they came (R6).
  [[nodiscard]] std::uint64_t stale_frames() const noexcept { return stale_frames_; }
  void count_stale(std::uint64_t frames) noexcept { stale_frames_ += frames; }
  /// What ChannelSettings::counted has not been told yet.
  [[nodiscard]] ChannelCounters counters() const;

 private:
  enum class Role { primary, secondary, solo };
  /// A VM that stands still cannot have more in its socket.
  static constexpr int drain_reads_max = 1024;

  /// A chardev that QEMU writes to.
  struct Source {
    std::string part;
    asio::posix::stream_descriptor socket;
    proxy::FrameAssembler frames;
  };
  /// A chardev that QEMU reads from.
  struct Sink {
    std::string part;
    asio::posix::stream_descriptor socket;
    bool writing = false;
  };
  struct Feed : Sink {
    proxy::ByteQueue queue;
  };

  NetChannel(asio::any_io_executor executor, std::string netdev, Role role,
             ChannelSettings settings);
  [[nodiscard]] std::string id(std::string_view part) const;
  Task<Result<void>> add_source(qmp::Client& qmp, Source& source);
  Task<Result<void>> add_sink(qmp::Client& qmp, Sink& sink);
  Task<Result<void>> attach(qmp::Client& qmp);
  Task<Result<void>> detach(qmp::Client& qmp);
  void start_pump(Source& source);
  Task<void> pump(Source& source);
  Result<std::uint64_t> drain(Source& source, int reads_max = drain_reads_max);
  void take(const Source& source, proxy::FrameSpan frames);
  void take_output(proxy::FrameSpan frames);
  void take_client_packets(proxy::FrameSpan frames);
  void settle();
  void end_counting();
  void flush();
  void flush(Sink& sink, proxy::ByteQueue& queue);
  Task<void> flush_rest(Sink& sink);
  [[nodiscard]] bool is_taken(const Sink& sink, bool queue_is_empty) const;

  std::string netdev_;
  Role role_;
  Handlers handlers_;
  bool comparing_ = false;   ///< a primary in a colo epoch
  bool forwarding_ = false;  ///< a secondary whose output is compared
  proxy::Translator translator_;
  proxy::Comparer comparer_;
  proxy::OutputGate gate_;
  Source capture_, intake_, mirror_;
  Sink inject_;
  Feed feed_;
  std::vector<std::byte> received_, translated_;
  proxy::Frames released_;
  std::uint64_t dropped_frames_ = 0;
  std::uint64_t stale_frames_ = 0;
  std::function<void(const ChannelCounters&)> counted_;
};

/// Takes off whatever a former daemon has left: what takes packets out first, or the VM would stay
/// mute.
Task<Result<void>> remove_leftover_filters(qmp::Client& qmp);

}  // namespace tandem::session
