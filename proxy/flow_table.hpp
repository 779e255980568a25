// The comparer's memory of flows: what outlives an epoch in some 100 bytes each, and what waits in
// a flow, for as long as something does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "proxy/packet.hpp"
#include "proxy/waiting_frame.hpp"

namespace tandem::proxy {

/// What waits in a flow.
struct FlowQueues {
  // Of the primary VM. Datagrams wait in `in_order`.
  FrameQueue in_order;              ///< each begins where the one before ends, or behind it
  FrameQueue out_of_order;          ///< the others: retransmissions, and what fills a gap
  FrameQueue acks;                  ///< pure acknowledgements
  WaitingFrame* owed = nullptr;     ///< the acknowledgement that a segment had to leave without
  WaitingFrame* partial = nullptr;  ///< matched further than it has left
  // Of the secondary VM. Datagrams wait in `secondary`, whole.
  FrameQueue secondary;  ///< payload by stream position, without overlaps
  FrameQueue resets;
  WaitingFrame* secondary_syn = nullptr;
  // A connection that is being opened anew: the stream position of its SYN, and who has sent one.
  std::uint64_t opening = 0;
  bool primary_opening = false;
  bool secondary_opening = false;
  bool listed = false;          ///< in the list of flows with a `partial`
  bool overtaken = false;       ///< something has left that was captured after what waits …
  std::uint32_t timestamp = 0;  ///< … with this TSval, the highest
  std::uint16_t out_of_order_count = 0;

  [[nodiscard]] bool primary_waits() const noexcept {
    return !in_order.empty() || !out_of_order.empty();
  }
  [[nodiscard]] bool empty() const noexcept {
    return in_order.empty() && out_of_order.empty() && acks.empty() && !owed && secondary.empty() &&
           resets.empty() && !secondary_syn;
  }
};

/// One conversation. All but the part marked "epoch" outlives it. Stream positions: tcp_stream.hpp.
struct Flow {
  FlowKey key;
  bool primary_seen : 1 = false;            ///< the primary VM has sent in this flow
  bool located : 1 = false;                 ///< `released` relates sequence numbers to positions
  bool based : 1 = false;                   ///< `released` is where new bytes begin
  bool opened : 1 = false;                  ///< `origin` is known
  bool acknowledged : 1 = false;            ///< `acked` is known
  bool finished : 1 = false;                ///< FIN has left
  bool reset : 1 = false;                   ///< RST has left
  bool held : 1 = false;                    ///< epoch: frames wait for the commit, in no queue
  bool blocked : 1 = false;                 ///< epoch: differs; nothing leaves any more
  bool reported : 1 = false;                ///< epoch: a difference was found
  bool secondary_acknowledged : 1 = false;  ///< epoch: `secondary_acked` is known
  enum class List : std::uint8_t { none, closed, foreign } list : 2 = List::none;
  std::uint32_t epoch = 0;     ///< the one that the epoch's part speaks of
  std::uint64_t released = 0;  ///< the next stream position that may be new
  /// The position of the first payload byte, if `opened`; that of the RST, if `reset`.
  std::uint64_t origin = 0;
  FlowQueues* queues = nullptr;
  std::uint32_t acked = 0;            ///< the highest acknowledgement that has left
  std::uint32_t secondary_acked = 0;  ///< epoch: the highest that the secondary VM has sent
  Flow* older = nullptr;              ///< in `list`
  Flow* newer = nullptr;

  /// Nothing more is expected but a new beginning.
  [[nodiscard]] bool closed() const noexcept {
    return !queues && !held && (key.kind != Kind::tcp || finished || reset);
  }
  void enter(std::uint32_t current) noexcept {
    if (epoch == current) return;
    epoch = current;
    held = blocked = reported = secondary_acknowledged = false;
  }
};
static_assert(sizeof(Flow) <= 96);

/// A stream position as it is shown: counted from the connection's first byte if its SYN was seen,
/// else the sequence number.
inline std::uint64_t shown_position(const Flow& flow, std::uint64_t position) noexcept {
  return flow.opened ? position - flow.origin : static_cast<std::uint32_t>(position);
}

/// Flows by key. Addresses of flows are stable. Full, it forgets the closed flow that has been
/// silent for longest, and never another one, but for those that erase_silent() is called for.
class FlowTable {
 public:
  explicit FlowTable(std::size_t flows_max);
  ~FlowTable();
  FlowTable(const FlowTable&) = delete;
  FlowTable& operator=(const FlowTable&) = delete;

  /// The flow of this key, made if need be; nullptr: no room.
  Flow* get(const FlowKey& key);

  FlowQueues& queues(Flow& flow);
  /// To be called when a flow has been dealt with: gives back empty queues and remembers whether
  /// the flow may be forgotten.
  void settle(Flow& flow);
  /// Forgets the flows in which only the secondary VM has sent; nothing may wait in them.
  void erase_foreign();
  /// Forgets the flows in which nobody has sent in this epoch; nothing may wait in any flow.
  void erase_silent(std::uint32_t epoch);
  void clear();

  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] std::uint64_t evicted() const noexcept { return evicted_; }

 private:
  struct Slot {
    std::uint32_t hash = 0;
    std::uint32_t flow = 0;  ///< index + 1; 0: empty
  };
  struct List {
    Flow* oldest = nullptr;
    Flow* newest = nullptr;
  };
  static constexpr std::size_t chunk_flows = 512;

  Flow& at(std::uint32_t index) noexcept {
    return chunks_[index / chunk_flows][index % chunk_flows];
  }
  static std::uint32_t hash_of(const FlowKey& key) noexcept;
  std::size_t slot_of(const FlowKey& key, std::uint32_t hash) noexcept;
  Flow* add(const FlowKey& key, std::uint32_t hash);
  void erase(Flow& flow);
  void grow();
  std::uint32_t new_index();
  List& list(Flow::List which) noexcept { return which == Flow::List::closed ? closed_ : foreign_; }
  void move_to(Flow& flow, Flow::List which) noexcept;

  std::size_t flows_max_;
  std::size_t size_ = 0;
  std::uint64_t evicted_ = 0;
  std::vector<Slot> slots_;  ///< open addressing, linear probing
  std::vector<std::unique_ptr<Flow[]>> chunks_;
  std::vector<std::uint32_t> free_;
  std::uint32_t used_ = 0;  ///< flows of the chunks that have ever been used
  Flow* recent_ = nullptr;  ///< frames come in bursts
  List closed_;
  List foreign_;
  std::vector<std::unique_ptr<FlowQueues>> free_queues_;
};

}  // namespace tandem::proxy
