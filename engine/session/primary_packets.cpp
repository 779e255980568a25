// The packets of a protected VM on the primary's side: what clients send goes to both VMs, and what
// the VMs send is held, compared and traced.
#include <algorithm>

#include "base/big_endian.hpp"
#include "engine/session/packet_frame.hpp"
#include "engine/session/primary_session.hpp"

namespace tandem::session {
namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;

constexpr auto comparison_tick = 10ms;
constexpr std::size_t window_bytes_max = 1u << 20;

}  // namespace

Task<Result<void>> PrimarySession::attach_channels() {
  for (const auto& netdev : vm_.netdevs) {
    const auto left = std::ranges::find(vm_.channels, netdev, &NetChannel::netdev);
    NetChannel::Pointer channel;
    if (left != vm_.channels.end()) {
      channel = *left;
      channel->become_primary(settings_.channel);
    } else {
      auto attached = co_await NetChannel::attach_primary(*vm_.qmp, netdev, settings_.channel);
      if (!attached) co_return attached.error();
      channel = *attached;
    }
    if (machine_.phase() != PrimaryMachine::Phase::synchronising) {
      // The pair has ended meanwhile, and its channels with it.
      if (channel->translator().idle()) (void)co_await channel->detach_in_order(*vm_.qmp);
      co_return Error{Errc::closed, "the pair has ended"};
    }
    channels_.push_back(channel);
    window_.emplace_back();
    translations_sent_.push_back(proxy::encode(proxy::TranslationTable{}));
    channel->serve(channel_handlers(channels_.size() - 1));
  }
  if (trace_.active()) start_trace();
  mirrors_wanted_ = settings_.policy != controller::Policy::periodic;
  if (mirrors_wanted_) {
    const auto mirrored = co_await start_mirrors();
    if (!mirrored) co_return mirrored.error();
  }
  nursery_.spawn(watch_comparison());
  co_return Result<void>();
}

Task<Result<void>> PrimarySession::start_mirrors() {
  while (mirrors_changing_ && !finished_) co_await changed_.wait();
  mirrors_changing_ = true;
  const auto channels = channels_;
  auto result = Result<void>();
  for (const auto& channel : channels) {
    if (result) result = co_await channel->start_mirror(*vm_.qmp);
  }
  mirrors_changing_ = false;
  changed_.notify();
  co_return result;
}

Task<void> PrimarySession::stop_mirrors() {
  while (mirrors_changing_ && !finished_) co_await changed_.wait();
  mirrors_changing_ = true;
  const auto channels = channels_;
  for (const auto& channel : channels) {
    // Somebody may have thought better of it meanwhile.
    if (mirrors_wanted_) break;
    if (channel->mirrors()) (void)co_await channel->stop_mirror(*vm_.qmp);
  }
  mirrors_changing_ = false;
  changed_.notify();
}

NetChannel::Handlers PrimarySession::channel_handlers(std::size_t nic) {
  NetChannel::Handlers handlers;
  handlers.failed = [this](const Error& error) { nursery_.spawn(end_if_vm_lives(error)); };
  handlers.held_much = [this] { perform(TriggerCheckpoint{}); };
  handlers.input = [this, nic](proxy::FrameSpan frames) {
    if (machine_.phase() != PrimaryMachine::Phase::protecting) return;
    input_.mirrored_frames += frames.count;
    if (trace_.active()) trace_input(nic, frames);
    if (epoch_mode_ == Mode::colo) send_input(nic, epoch_, frames);
    auto& window = window_[nic];
    if (!in_window_) return;
    if (window.bytes.size() + frames.bytes.size() > window_bytes_max) {
      input_.dropped_frames += frames.count;
      mismatched({proxy::Reason::overflow, {}, "too much input while a checkpoint begins"});
      return;
    }
    window.bytes.insert(window.bytes.end(), frames.bytes.begin(), frames.bytes.end());
    window.count += frames.count;
  };
  handlers.reference = [this, nic](proxy::FrameSpan frames) {
    const auto posted = peer_.post_packets(wire::FrameType::reference, epoch_, nic, frames.bytes);
    // The secondary VM's SYN then waits in vain, and so does this one's, for a checkpoint.
    if (!posted) channels_[nic]->count_dropped(frames.count);
  };
  handlers.mismatch = [this](const proxy::Mismatch& mismatch) { mismatched(mismatch); };
  return handlers;
}

void PrimarySession::send_input(std::size_t nic, Checkpoint epoch, proxy::FrameSpan frames) {
  const auto posted = peer_.post_packets(wire::FrameType::input, epoch, nic, frames.bytes);
  if (posted) return;
  // The secondary VM misses something now; the next checkpoint makes up for it.
  input_.dropped_frames += frames.count;
  mismatched({proxy::Reason::overflow, {}, posted.error().message});
}

void PrimarySession::mismatched(const proxy::Mismatch& mismatch) {
  if (pacer_.checkpoint_wanted() || closing_epoch_) return;
  if (machine_.phase() != PrimaryMachine::Phase::protecting) return;
  mismatches_.add(mismatch, std::chrono::system_clock::now());
  const auto flow = mismatch.flow == proxy::FlowKey{} ? "" : to_string(mismatch.flow);
  observer_.event("mismatch",
                  std::string(to_string(mismatch.reason)) + ": " + flow + " " + mismatch.detail,
                  {{"reason", to_string(mismatch.reason)},
                   {"flow", flow},
                   {"detail", mismatch.detail},
                   {"epoch", epoch_}});
  pacer_.mismatched();
}

Result<void> PrimarySession::hear_packets(const Frame& frame) {
  if (frame.header.type != wire::FrameType::output) {
    return Error{Errc::protocol, "the peer sent " + std::string(to_string(frame.header.type)) +
                                     " packets, which only a primary sends"};
  }
  const auto packets = decode_packets(frame.payload, channels_.size());
  if (!packets) return packets.error();
  if (frame.header.number > epoch_) {
    return Error{Errc::protocol, "output of epoch " + std::to_string(frame.header.number) +
                                     ", which has not begun"};
  }
  // R6: what the secondary has sent in an epoch that is over here is of no use any more.
  if (machine_.phase() != PrimaryMachine::Phase::protecting || frame.header.number < epoch_) {
    channels_[packets->nic]->count_stale(packets->frames.count);
    return {};
  }
  channels_[packets->nic]->secondary_sent(packets->frames);
  return {};
}

Task<void> PrimarySession::watch_comparison() {
  while (!finished_) {
    end_trace_if_unread();
    if (epoch_mode_ == Mode::periodic) {
      co_await changed_.wait();
      continue;
    }
    co_await peer_.sleep(comparison_tick);
    for (const auto& channel : channels_) channel->tick();
  }
}

nlohmann::json PrimarySession::read_trace(std::uint64_t after) {
  if (!trace_.active()) start_trace();
  trace_.touch(steady_clock::now());
  return trace_.after(after);
}

void PrimarySession::start_trace() {
  for (std::size_t nic = 0; nic < channels_.size(); ++nic) {
    channels_[nic]->trace([this, nic](proxy::Comparer::Side side, std::span<const std::byte> frame,
                                      std::string comment) {
      const auto traced =
          side == proxy::Comparer::Side::primary ? TraceSide::primary : TraceSide::secondary;
      trace_.add(std::chrono::system_clock::now(), nic, traced, epoch_, frame, std::move(comment));
    });
  }
}

void PrimarySession::end_trace_if_unread() {
  if (!trace_.expired(steady_clock::now())) return;
  for (const auto& channel : channels_) channel->trace({});
}

void PrimarySession::trace_input(std::size_t nic, proxy::FrameSpan frames) {
  const auto* comment = epoch_mode_ == Mode::colo ? "to both VMs" : "to the primary VM";
  auto bytes = frames.bytes;
  while (!bytes.empty()) {
    const auto size = proxy::frame_prefix_size + load_be<std::uint32_t>(bytes.data());
    trace_.add(std::chrono::system_clock::now(), nic, TraceSide::client, epoch_, bytes.first(size),
               comment);
    bytes = bytes.subspan(size);
  }
}

}  // namespace tandem::session
