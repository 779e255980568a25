#include "engine/session/secondary_session.hpp"

#include <sys/socket.h>

#include <boost/asio/post.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>

#include "base/big_endian.hpp"
#include "engine/colo/stream_parser.hpp"
#include "engine/session/checkpoint_frame.hpp"
#include "engine/session/packet_frame.hpp"
#include "qmp/commands.hpp"

namespace tandem::session {
namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;

constexpr auto load_limit = 10s;
constexpr auto promote_limit = 10s;
/// How long a secondary VM may take to load a checkpoint of so many bytes. One that takes longer
/// ends the pair, or in the end the primary VM would stand still for its sake.
constexpr std::chrono::milliseconds svm_limit(std::size_t checkpoint_bytes) {
  return 3s + std::chrono::milliseconds(checkpoint_bytes >> 18);  // 256 MiB/s
}
/// Input that waits for its epoch, or for the VM to take it.
constexpr std::size_t input_bytes_max = 16u << 20;
constexpr std::size_t feeding_bytes_max = 1u << 20;
/// What the VM was fed and does not take within this time, it takes after its next load; TCP bears
/// that.
constexpr auto quiet_limit = 1s;
constexpr auto quiet_poll = 300us;
constexpr const char* stream_name = "tnd-migration";

/// One coming in, one waiting, one being loaded; a primary that is faster than that waits.
constexpr std::size_t buffers_max = 3;

std::string reason_of(const std::string& payload) {
  const auto json = nlohmann::json::parse(payload, nullptr, false);
  if (json.is_object() && json.contains("reason") && json["reason"].is_string())
    return json["reason"];
  return "no reason given";
}

}  // namespace

SecondarySession::SecondarySession(asio::any_io_executor executor, PairSettings settings,
                                   Lanes lanes, VmControl vm, arbiter::Arbiter& arbiter,
                                   Observer observer)
    : executor_(executor),
      settings_(std::move(settings)),
      vm_(std::move(vm)),
      arbiter_(arbiter),
      observer_(std::move(observer)),
      machine_({.generation = settings_.generation}),
      peer_(executor, settings_, std::move(lanes), settings_.heartbeat_timeout,
            {[this](Frame frame) { return hear(std::move(frame)); },
             [this](const Frame& frame) { return hear_packets(frame); },
             [this](Error error) { peer_lost(std::move(error)); }}),
      nursery_(executor),
      changed_(executor),
      stream_(executor),
      input_(input_bytes_max) {}

Task<FinishSecondary> SecondarySession::run() {
  peer_.start(nursery_);
  peer_.expect_heartbeats();
  nursery_.spawn(start());
  while (!finished_ || announcing_) co_await changed_.wait();

  peer_.say_farewell();
  close_stream();
  for (const auto& channel : channels_) channel->stop_serving();
  changed_.notify();
  co_await nursery_.wait_for_all();
  peer_.finish();
  // Lets cancelled handlers run before we go.
  co_await asio::post(executor_, asio::use_awaitable);
  co_return *finished_;
}

Task<void> SecondarySession::start() {
  const auto started = co_await start_incoming();
  if (!started) {
    dispatch(SvmStreamEnded{started.error()});
    co_return;
  }
  (void)peer_.post(wire::FrameType::setup_done, 0);
  nursery_.spawn(read_svm());
  nursery_.spawn(watch_svm());
  co_await read_bulk();
}

Task<Result<void>> SecondarySession::start_incoming() {
  auto buffers = checkpoint::BufferPool::create(
      buffers_max, static_cast<std::size_t>(settings_.checkpoint_bytes_max));
  if (!buffers) co_return buffers.error();
  buffers_ = std::move(*buffers);
  const auto attached = co_await attach_channels();
  if (!attached) co_return attached.error();
  std::vector<std::pair<std::string, bool>> capabilities;
  for (const auto& name : settings_.colo_capabilities) capabilities.emplace_back(name, true);
  auto set = co_await qmp::set_capabilities(*vm_.qmp, capabilities);
  if (!set) co_return set.error();
  // Or its guest would announce itself after each load, and differ from the primary VM by that. The
  // one announcement that is wanted comes after the take-over.
  qmp::MigrationParameters parameters;
  parameters.announce_rounds = 0;
  set = co_await qmp::set_parameters(*vm_.qmp, parameters);
  if (!set) co_return set.error();
  const auto socket = co_await give_socket(*vm_.qmp, stream_name);
  if (!socket) co_return socket.error();
  stream_.assign(*socket);
  co_return co_await qmp::migrate_incoming(*vm_.qmp, std::string("fd:") + stream_name);
}

void SecondarySession::vm_lost(Error error) {
  dispatch(VmLost{std::move(error)});
}

void SecondarySession::leave(std::string reason) {
  dispatch(SvmStreamEnded{{Errc::closed, std::move(reason)}});
}

SessionCounters SecondarySession::counters() const {
  auto counters = counters_;
  counters.wire_bytes += peer_.bytes();
  return counters;
}

// ---- the peer

Task<void> SecondarySession::read_bulk() {
  const auto ended = co_await receive_bulk();
  if (!ended) co_await peer_.bulk_ended(ended.error());
}

Task<Result<void>> SecondarySession::receive_bulk() {
  std::vector<std::byte> piece(wire::stream_piece_max);
  std::uint64_t offset = 0;
  for (;;) {
    std::array<std::byte, wire::frame_header_size> bytes;
    auto received = co_await peer_.bulk().receive(bytes);
    if (!received) co_return received.error();
    const auto header =
        wire::decode_frame(bytes, wire::LaneKind::bulk, settings_.checkpoint_bytes_max);
    if (!header) co_return header.error();
    peer_.heard();
    counters_.wire_bytes += bytes.size() + header->length;
    if (header->type == wire::FrameType::checkpoint) {
      piece.clear();
      piece.shrink_to_fit();
      received = co_await receive_checkpoint(*header);
      if (!received) co_return received.error();
      continue;
    }
    if (header->type == wire::FrameType::translations) {
      received = co_await receive_translations(*header);
      if (!received) co_return received.error();
      continue;
    }
    if (machine_.phase() != SecondaryMachine::Phase::synchronising || header->number != offset) {
      co_return Error{Errc::protocol, "a piece of the initial stream out of place"};
    }
    offset += header->length;
    const auto content = std::span(piece).first(static_cast<std::size_t>(header->length));
    received = co_await peer_.bulk().receive(content);
    if (!received) co_return received.error();
    const auto buffer = asio::buffer(content.data(), content.size());
    // If QEMU does not take it, the reader of its answers says why.
    const auto [ec, n] = co_await asio::async_write(stream_, buffer, use_tuple);
    if (ec) co_return Result<void>();
  }
}

Task<Result<void>> SecondarySession::receive_checkpoint(wire::FrameHeader header) {
  auto buffer = buffers_->take();
  while (
      !buffer) {  // the VM loads more slowly than the peer sends; the lane fills and the peer waits
    if (finished_) co_return Error{Errc::closed, "the pair has ended"};
    co_await changed_.wait();
    buffer = buffers_->take();
  }
  const std::function<void()> on_piece = [this] { peer_.heard(); };
  const auto pages = co_await session::receive_checkpoint(peer_.bulk(), header, *buffer, on_piece);
  if (!pages) co_return pages.error();
  counters_.wire_bytes += wire::digest_size;
  counters_.dirty_bytes += *pages * colo::page_size;
  counters_.checkpoint_bytes_largest =
      std::max<std::uint64_t>(counters_.checkpoint_bytes_largest, buffer->size());
  if (machine_.phase() != SecondaryMachine::Phase::protecting) {
    co_return Error{Errc::protocol, "checkpoint " + std::to_string(header.number) +
                                        " came before the VM was synchronised"};
  }
  const auto mode = (header.flags & wire::flag_runs) != 0 ? Mode::colo : Mode::periodic;
  whole_.emplace(header.number, Whole{std::move(buffer), translations_});
  dispatch(CheckpointVerified{header.number, mode});
  co_return Result<void>();
}

Task<Result<void>> SecondarySession::receive_translations(wire::FrameHeader header) {
  constexpr std::size_t head_size = 4;
  std::vector<std::byte> payload(static_cast<std::size_t>(header.length));
  const auto received = co_await peer_.bulk().receive(payload);
  if (!received) co_return received.error();
  const auto nic = payload.size() < head_size ? SIZE_MAX : load_be<std::uint32_t>(payload.data());
  if (nic >= translations_.size()) {
    co_return Error{Errc::protocol, "translations of a NIC that the VM does not have"};
  }
  auto table = proxy::decode_translations(std::span(payload).subspan(head_size));
  if (!table) co_return table.error();
  translations_[nic] = std::move(*table);
  co_return Result<void>();
}

Task<Result<void>> SecondarySession::hear(Frame frame) {
  switch (frame.header.type) {
    case wire::FrameType::take_over: {
      const auto reason = reason_of(frame.payload);
      note_loss(reason);
      dispatch(PeerTakeOver{reason});
      break;
    }
    case wire::FrameType::end:
      dispatch(PeerEnd{reason_of(frame.payload)});
      break;
    default:
      co_return Error{Errc::protocol, "the peer sent a " +
                                          std::string(to_string(frame.header.type)) +
                                          " frame, which has no place here"};
  }
  co_return Result<void>();
}

// ---- the guest's packets

Task<Result<void>> SecondarySession::attach_channels() {
  for (const auto& netdev : vm_.netdevs) {
    auto channel = co_await NetChannel::attach_secondary(*vm_.qmp, netdev, settings_.channel);
    if (!channel) co_return channel.error();
    channels_.push_back(*channel);
    translations_.emplace_back();
    const auto nic = channels_.size() - 1;
    channels_[nic]->serve(channel_handlers(nic));
  }
  co_return Result<void>();
}

NetChannel::Handlers SecondarySession::channel_handlers(std::size_t nic) {
  NetChannel::Handlers handlers;
  // Output that is not read any more would freeze QEMU. Its end is told by its monitor.
  handlers.failed = [this](const Error& error) {
    if (error.code != Errc::closed) dispatch(SvmStreamEnded{error});
  };
  handlers.output = [this, nic](proxy::FrameSpan frames) {
    const auto posted = peer_.post_packets(wire::FrameType::output, epoch_, nic, frames.bytes);
    // A primary that does not read has other troubles; what it misses times out there.
    if (!posted) channels_[nic]->count_dropped(frames.count);
  };
  handlers.fed = [this] { feed_input(); };
  return handlers;
}

Result<void> SecondarySession::hear_packets(const Frame& frame) {
  if (frame.header.type == wire::FrameType::output) {
    return Error{Errc::protocol, "the peer sent output packets, which only a secondary sends"};
  }
  const auto packets = decode_packets(frame.payload, channels_.size());
  if (!packets) return packets.error();
  const bool kept =
      input_.push({frame.header.number, frame.header.type == wire::FrameType::reference,
                   packets->nic, packets->frames.count, frame.payload});
  // The VM misses something now; the next checkpoint makes up for it.
  if (!kept) {
    (void)peer_.post(wire::FrameType::ask, 0, settings_.host + " has no room for more input");
  }
  feed_input();
  return {};
}

void SecondarySession::feed_input() {
  while (feeding_) {
    const auto* entry = input_.front(epoch_);
    if (entry == nullptr) return;
    auto& channel = *channels_[entry->nic];
    if (channel.feeding() > feeding_bytes_max) return;  // goes on when QEMU has taken some of it
    // It was decoded when it came.
    const auto packets = decode_packets(entry->payload, channels_.size());
    if (entry->reference) {
      channel.reference(packets->frames);
    } else {
      channel.feed(packets->frames);
    }
    input_.pop();
  }
}

void SecondarySession::perform(const BeginSecondaryEpoch& action) {
  epoch_ = action.epoch;
  feeding_ = true;
  feed_input();
}

void SecondarySession::perform(const QuietInput& action) {
  nursery_.spawn(quiet_input(action.rest));
}

Task<void> SecondarySession::quiet_input(bool rest) {
  if (!rest) feeding_ = false;
  const auto is_quiet = [&] {
    const bool all_fed = !feeding_ || input_.front(epoch_) == nullptr;
    return all_fed && std::ranges::all_of(channels_, [](const auto& c) { return c->is_quiet(); });
  };
  const auto deadline = steady_clock::now() + quiet_limit;
  asio::steady_timer timer(executor_);
  while (!is_quiet() && steady_clock::now() < deadline && !finished_) {
    timer.expires_after(quiet_poll);
    co_await timer.async_wait(use_tuple);
  }
  feeding_ = false;
  dispatch(InputQuiet{});
}

void SecondarySession::perform(const EndEpoch&) {
  for (const auto& channel : channels_) {
    const auto ended = channel->end_epoch();
    if (!ended && ended.error().code != Errc::closed) {
      nursery_.spawn(give_up(ended.error()));
      return;
    }
  }
}

Task<void> SecondarySession::give_up(Error error) {
  dispatch(SvmStreamEnded{std::move(error)});
  co_return;
}

Task<void> SecondarySession::watch_svm() {
  Checkpoint loaded = 0;
  auto since = steady_clock::now();
  while (!finished_) {
    co_await peer_.sleep(500ms);
    if (!machine_.is_loading() || machine_.loaded() != loaded) {
      loaded = machine_.loaded();
      since = steady_clock::now();
    }
    if (machine_.phase() != SecondaryMachine::Phase::protecting || !machine_.is_loading()) continue;
    const auto found = whole_.find(loaded + 1);
    const auto size = found == whole_.end() ? 0 : found->second.buffer->bytes().size();
    if (steady_clock::now() - since < svm_limit(size)) continue;
    dispatch(SvmStreamEnded{{Errc::timed_out, "the secondary's QEMU does not load checkpoint " +
                                                  std::to_string(loaded + 1)}});
    co_return;
  }
}

void SecondarySession::note_loss(const std::string& reason) {
  if (failover_.times() || machine_.phase() != SecondaryMachine::Phase::protecting) return;
  failover_.begin(peer_.last_heard(), reason);
  observer_.event("peer-lost", settings_.peer + " is lost: " + reason,
                  {{"peer", settings_.peer}, {"silent_ms", failover_.times()->detection.count()}});
}

void SecondarySession::peer_lost(Error error) {
  note_loss(error.message);
  dispatch(PeerLost{std::move(error)});
}

// ---- the secondary VM's stream

Task<void> SecondarySession::read_svm() {
  const auto ended = co_await receive_svm();
  if (!ended && !finished_) dispatch(SvmStreamEnded{ended.error()});
}

Task<Result<void>> SecondarySession::forward_return_path() {
  // Return-path messages: be16 type, be16 length, payload; the last before COLO is type 1, SHUT.
  constexpr std::uint16_t shut = 1;
  std::vector<std::byte> message(4);
  for (;;) {
    message.resize(4);
    auto buffer = asio::buffer(message.data(), 4);
    auto [ec, n] = co_await asio::async_read(stream_, buffer, use_tuple);
    if (ec) co_return Error{Errc::closed, "the secondary's QEMU closed its stream"};
    const auto type = load_be<std::uint16_t>(message.data());
    const auto length = load_be<std::uint16_t>(message.data() + 2);
    message.resize(4u + length);
    auto rest = asio::buffer(message.data() + 4, length);
    auto [rest_ec, rest_n] = co_await asio::async_read(stream_, rest, use_tuple);
    if (rest_ec) co_return Error{Errc::closed, "the secondary's QEMU closed its stream"};
    const std::string_view text(reinterpret_cast<const char*>(message.data()), message.size());
    const auto posted = peer_.post(wire::FrameType::return_path, 0, text);
    if (!posted) co_return posted.error();
    if (type == shut) co_return Result<void>();
  }
}

Task<Result<void>> SecondarySession::receive_svm() {
  const auto& capabilities = settings_.colo_capabilities;
  if (std::ranges::find(capabilities, "return-path") != capabilities.end()) {
    const auto forwarded = co_await forward_return_path();
    if (!forwarded) co_return forwarded.error();
  }
  for (;;) {
    std::array<std::byte, 4> bytes;
    const auto buffer = asio::buffer(bytes);
    const auto [ec, n] = co_await asio::async_read(stream_, buffer, use_tuple);
    if (ec) co_return Error{Errc::closed, "the secondary's QEMU closed its stream"};
    const auto message = static_cast<colo::Message>(load_be<std::uint32_t>(bytes.data()));
    switch (message) {
      case colo::Message::checkpoint_ready:
        dispatch(SvmReady{});
        break;
      case colo::Message::checkpoint_reply:
        dispatch(SvmReply{});
        break;
      case colo::Message::vmstate_received:
        dispatch(SvmReceived{});
        break;
      case colo::Message::vmstate_loaded: {
        const auto loading = machine_.loaded() + 1;
        dispatch(SvmLoaded{});
        whole_.erase(loading);
        changed_.notify();
        break;
      }
      default:
        co_return Error{Errc::protocol, "the secondary's QEMU sent message " +
                                            std::to_string(static_cast<std::uint32_t>(message))};
    }
  }
}

void SecondarySession::perform(const FeedRequest&) {
  std::array<std::byte, 4> bytes;
  store_be(bytes.data(), static_cast<std::uint32_t>(colo::Message::checkpoint_request));
  // QEMU has taken everything before, so four bytes fit.
  if (::send(stream_.native_handle(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL) !=
      4) {
    boost::system::error_code ignored;
    stream_.cancel(ignored);
  }
}

void SecondarySession::perform(const Feed& action) {
  nursery_.spawn(feed(action));
}

Task<void> SecondarySession::feed(Feed action) {
  const auto found = whole_.find(action.checkpoint);
  if (found == whole_.end()) co_return;
  epoch_ = action.checkpoint;
  for (std::size_t nic = 0; nic < channels_.size(); ++nic) {
    channels_[nic]->load_epoch(found->second.translations[nic], action.mode);
  }
  const auto bytes = found->second.buffer->bytes();
  const auto buffer = asio::buffer(bytes.data(), bytes.size());
  // An error here is also seen by the reader of QEMU's answers, which reports it.
  co_await asio::async_write(stream_, buffer, use_tuple);
}

void SecondarySession::close_stream() {
  boost::system::error_code ignored;
  if (stream_.is_open()) ::shutdown(stream_.native_handle(), SHUT_RDWR);
  stream_.close(ignored);
}

// ---- the machine's decisions, carried out

void SecondarySession::dispatch(const SecondaryEvent& event) {
  const auto before = machine_.phase();
  const auto actions = machine_.on(event);
  for (const auto& action : actions) {
    std::visit([this](const auto& a) { perform(a); }, action);
  }
  if (before == SecondaryMachine::Phase::synchronising &&
      machine_.phase() == SecondaryMachine::Phase::protecting) {
    observer_.event("synchronised",
                    settings_.vm + " of " + settings_.peer + " is synchronised here",
                    {{"peer", settings_.peer}, {"generation", settings_.generation}});
  }
  changed_.notify();
}

void SecondarySession::perform(const TellPeer& action) {
  (void)peer_.post(action.type, action.number, action.text);
}

void SecondarySession::perform(const CloseLanes&) {
  peer_.close();
}

void SecondarySession::perform(const Claim& action) {
  nursery_.spawn(claim(action));
}

Task<void> SecondarySession::claim(Claim action) {
  if (action.delay > 0ms) co_await peer_.sleep(action.delay);
  if (finished_) co_return;
  const auto answer = co_await ask_arbiter(arbiter_, settings_, action, observer_);
  failover_.decided();
  std::visit([this](const auto& event) { dispatch(event); }, answer);
}

void SecondarySession::perform(const StartLoadTimer&) {
  nursery_.spawn(watch_load());
}

Task<void> SecondarySession::watch_load() {
  const auto deadline = steady_clock::now() + load_limit + promote_limit;
  while (!finished_ && steady_clock::now() < deadline) co_await peer_.sleep(50ms);
  if (!finished_) dispatch(LoadTimeout{});
}

void SecondarySession::perform(const Promote& action) {
  nursery_.spawn(promote(action));
}

Task<void> SecondarySession::promote(Promote action) {
  failover_.loaded(action.checkpoint);
  observer_.event("loaded", "checkpoint " + std::to_string(action.checkpoint) + " is loaded",
                  {{"checkpoint", action.checkpoint}});
  for (const auto& channel : channels_) channel->become_solo();
  // The network is made ready first, so that the VM's first packet already leaves; but where
  // connections are translated, not before their packets come through our hands again.
  const bool translates = std::ranges::any_of(
      channels_, [](const auto& channel) { return !channel->translator().idle(); });
  if (!translates) connect_network();
  close_stream();
  const auto told = co_await qmp::colo_lost_heartbeat(*vm_.qmp);
  if (!told) observer_.event("refused", told.error().message, {});
  // A VM in colo mode runs already.
  auto running = co_await wait_until_colo_has_ended(*vm_.qmp, promote_limit);
  if (translates) {
    for (const auto& channel : channels_) {
      const auto on = co_await channel->switch_on(*vm_.qmp);
      if (!on) observer_.event("refused", on.error().message, {});
    }
    connect_network();
  }
  if (running) running = co_await wait_until_running(*vm_.qmp, promote_limit);
  if (!running) {
    dispatch(LoadTimeout{});
    co_return;
  }
  failover_.running();
  dispatch(VmRunning{});
}

void SecondarySession::connect_network() {
  const auto connected = vm_.connect_network();
  if (!connected) observer_.event("refused", connected.error().message, {});
}

void SecondarySession::perform(const Announce&) {
  announcing_ = true;
  nursery_.spawn(announce());
}

Task<void> SecondarySession::announce() {
  std::vector<NetChannel::Pointer> translating;
  for (const auto& channel : channels_) {
    if (!channel->translator().idle()) {
      translating.push_back(channel);
      continue;
    }
    const auto detached = co_await channel->detach_in_order(*vm_.qmp);
    if (!detached) observer_.event("refused", detached.error().message, {});
  }
  channels_ = std::move(translating);
  const auto announced = co_await qmp::announce_self(*vm_.qmp);
  if (!announced) observer_.event("refused", announced.error().message, {});
  announcing_ = false;
  changed_.notify();
}

void SecondarySession::perform(const KillVm&) {
  nursery_.spawn(kill_vm());
}

Task<void> SecondarySession::kill_vm() {
  co_await vm_.kill();
}

void SecondarySession::perform(const FinishSecondary& action) {
  finished_ = action;
}

}  // namespace tandem::session
