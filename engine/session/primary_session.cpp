#include "engine/session/primary_session.hpp"

#include <sys/socket.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "base/big_endian.hpp"
#include "engine/checkpoint/digest.hpp"
#include "engine/control/json.hpp"
#include "engine/session/packet_frame.hpp"
#include "qmp/commands.hpp"

namespace tandem::session {
namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;

constexpr auto setup_limit = 30s;
constexpr auto synchronisation_poll = 100ms;
constexpr auto run_alone_limit = 10s;
/// QEMU takes a checkpoint by itself only if nobody has asked for one for longer than any epoch
/// lasts.
constexpr std::uint32_t checkpoint_delay_ms = 120'000;
constexpr auto mode_poll = 100ms;
constexpr auto mode_change_limit = 5s;

// In the middle of a checkpoint the reader looks again after a nap instead of letting QEMU wake it:
// each wake-up costs QEMU time, and the scheduler tends to put the woken reader on QEMU's own
// processor, where the two take turns instead of copying at the same time. The socket holds far
// more than comes in a nap.
constexpr timespec nap{0, 50'000};
constexpr int naps_max = 40;
// Other work of this thread gets its turn at least this often while a large checkpoint comes in.
constexpr auto turn_limit = 5ms;
constexpr std::size_t receive_piece = 1u << 20;
constexpr std::size_t ship_piece = 512u << 10;

constexpr const char* stream_name = "tnd-migration";

/// Two in flight and one coming in (R5).
constexpr std::size_t buffers_max = 3;

/// What the peer says, fit for events and logs.
std::string peer_text(std::string text) {
  constexpr std::size_t length_max = 1024;
  if (text.size() > length_max) text.resize(length_max);
  // The way there and back replaces what is no UTF-8.
  const nlohmann::json json = std::move(text);
  return nlohmann::json::parse(json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace))
      .get<std::string>();
}

/// Notes where one call of the parser stopped, and counts.
struct RelaySink final : colo::Sink {
  void on_message(colo::Message message) override { last = message; }
  void on_page(std::string_view, std::uint64_t, std::span<const std::byte>) override { ++pages; }
  void on_zero_page(std::string_view, std::uint64_t, std::byte) override { ++pages; }
  void on_checkpoint_end() override { ended = true; }

  std::optional<colo::Message> last;
  std::uint64_t pages = 0;
  bool ended = false;
};

}  // namespace

PrimarySession::PrimarySession(asio::any_io_executor executor, PairSettings settings, Lanes lanes,
                               VmControl vm, arbiter::Arbiter& arbiter, Observer observer)
    : executor_(executor),
      settings_(std::move(settings)),
      vm_(std::move(vm)),
      arbiter_(arbiter),
      observer_(std::move(observer)),
      machine_({.generation = settings_.generation}),
      pacer_(executor, settings_.policy, settings_.parameters),
      // Where both hosts live and only the link is gone, the primary should be the first to notice:
      // a VM that stays where it is loses no work.
      peer_(executor, settings_, std::move(lanes), settings_.heartbeat_timeout * 3 / 4,
            {[this](Frame frame) { return hear(std::move(frame)); },
             [this](const Frame& frame) { return hear_packets(frame); },
             [this](Error error) { peer_lost(std::move(error)); }}),
      nursery_(executor),
      changed_(executor),
      stream_(executor),
      trace_(vm_.netdevs),
      receiving_(nullptr, {}) {}

Task<FinishPrimary> PrimarySession::run(std::string setup) {
  peer_.start(nursery_);
  nursery_.spawn(ship_checkpoints());
  nursery_.spawn(pacer_.run([this] { return ask_for_checkpoint(); }));
  nursery_.spawn(start(std::move(setup)));
  while (!finished_ || opening_) co_await changed_.wait();

  // What was told to the peer last still has to reach it.
  peer_.say_farewell();
  close_stream();
  pacer_.stop();
  for (const auto& channel : channels_) {
    channel->stop_serving();
    channel->trace({});
  }
  changed_.notify();
  co_await nursery_.wait_for_all();
  peer_.finish();
  // Lets cancelled handlers run before we go.
  co_await asio::post(executor_, asio::use_awaitable);
  co_return *finished_;
}

Task<void> PrimarySession::start(std::string setup) {
  const auto started = co_await start_migration(std::move(setup));
  if (!started && !finished_) dispatch(VmStreamEnded{started.error()});
}

Task<Result<void>> PrimarySession::start_migration(std::string setup) {
  auto buffers = checkpoint::BufferPool::create(
      buffers_max, static_cast<std::size_t>(settings_.checkpoint_bytes_max));
  if (!buffers) co_return buffers.error();
  buffers_ = std::move(*buffers);

  const auto posted = peer_.post(wire::FrameType::setup, 0, setup);
  if (!posted) co_return posted.error();
  const auto deadline = steady_clock::now() + setup_limit;
  while (!setup_done_ && machine_.phase() == PrimaryMachine::Phase::synchronising) {
    if (steady_clock::now() > deadline) {
      co_return Error{Errc::timed_out, settings_.peer + " did not make the secondary VM ready"};
    }
    co_await wait_for(2ms);
  }
  if (!setup_done_) co_return Result<void>();  // the pair has ended meanwhile

  const auto attached = co_await attach_channels();
  if (!attached) co_return attached.error();

  if (machine_.phase() != PrimaryMachine::Phase::synchronising) co_return Result<void>();
  auto& qmp = *vm_.qmp;
  std::vector<std::pair<std::string, bool>> capabilities;
  for (const auto& name : settings_.colo_capabilities) capabilities.emplace_back(name, true);
  auto done = co_await qmp::set_capabilities(qmp, capabilities);
  if (!done) co_return done.error();
  qmp::MigrationParameters parameters;
  parameters.checkpoint_delay_ms = checkpoint_delay_ms;
  parameters.max_bandwidth = 100'000'000'000;
  done = co_await qmp::set_parameters(qmp, parameters);
  if (!done) co_return done.error();
  const auto socket = co_await give_socket(qmp, stream_name);
  if (!socket) co_return socket.error();
  stream_.assign(*socket);
  nursery_.spawn(read_stream());
  done = co_await qmp::migrate(qmp, std::string("fd:") + stream_name);
  if (!done) co_return done.error();
  nursery_.spawn(watch_synchronisation());
  co_return Result<void>();
}

Task<void> PrimarySession::watch_synchronisation() {
  while (machine_.phase() == PrimaryMachine::Phase::synchronising) {
    co_await peer_.sleep(synchronisation_poll);
    const auto status = co_await qmp::query_migrate(*vm_.qmp);
    if (!status || machine_.phase() != PrimaryMachine::Phase::synchronising) co_return;
    if (status->status == "failed") {
      dispatch(VmStreamEnded{{Errc::refused, "QEMU's migration failed: " + status->description}});
    } else if (status->status == "completed") {
      dispatch(
          VmStreamEnded{{Errc::refused,
                         "QEMU's migration completed without entering COLO: COLO is broken in this "
                         "QEMU (" +
                             to_string(vm_.qmp->version()) + ")"}});
    }
  }
}

Task<Result<void>> PrimarySession::wait_until_protected() {
  while (!finished_ && machine_.phase() == PrimaryMachine::Phase::synchronising) {
    co_await changed_.wait();
  }
  if (ready_answered_) co_return Result<void>();
  while (!finished_) co_await changed_.wait();
  co_return finished_->reason;
}

void PrimarySession::unprotect() {
  dispatch(Unprotect{});
}
void PrimarySession::switch_over() {
  dispatch(SwitchOver{});
}
void PrimarySession::vm_lost(Error error) {
  dispatch(VmLost{std::move(error)});
}
void PrimarySession::vm_shut_down() {
  dispatch(VmShutdown{});
}

SessionCounters PrimarySession::counters() const {
  auto counters = counters_;
  counters.wire_bytes += peer_.bytes();
  return counters;
}

// ---- the primary VM's stream

Task<void> PrimarySession::read_stream() {
  auto ended = co_await forward_initial_stream();
  if (ended) ended = co_await relay_checkpoints();
  if (finished_ || !stream_.is_open() || ended) co_return;
  co_await end_if_vm_lives(with_context("the VM's COLO stream", ended.error()));
}

Task<void> PrimarySession::end_if_vm_lives(Error error) {
  // Once it goes on alone its sockets are closed on purpose.
  const auto phase = machine_.phase();
  if (finished_ || phase == PrimaryMachine::Phase::going_alone) co_return;
  // A QEMU that was killed closes its other sockets a moment before it closes its monitor. Who is
  // asked tells a dead VM, which the peer must replace, from a connection that merely broke.
  const auto alive = co_await qmp::query_status(*vm_.qmp);
  if (!alive && alive.error().code == Errc::closed) co_return;  // vm_lost() follows
  dispatch(VmStreamEnded{std::move(error)});
}

Task<Result<std::size_t>> PrimarySession::receive_some(std::span<std::byte> into) {
  for (int naps = 0;;) {
    const auto n = ::recv(stream_.native_handle(), into.data(), into.size(), MSG_DONTWAIT);
    if (n > 0) co_return static_cast<std::size_t>(n);
    if (n == 0) co_return Error{Errc::closed, "QEMU closed it"};
    if (errno == EINTR) continue;
    if (errno != EAGAIN && errno != EWOULDBLOCK) co_return system_error("cannot read", errno);
    if (vm_is_paused_ && naps < naps_max) {
      ++naps;
      ::nanosleep(&nap, nullptr);
      continue;
    }
    const auto [ec] =
        co_await stream_.async_wait(asio::posix::stream_descriptor::wait_read, use_tuple);
    if (ec || !stream_.is_open()) co_return Error{Errc::closed, "closed"};
    co_return std::size_t{0};
  }
}

Task<Result<void>> PrimarySession::forward_initial_stream() {
  std::vector<std::byte> piece(wire::stream_piece_max);
  std::uint64_t offset = 0;
  while (!ready_answered_) {
    const auto received = co_await receive_some(piece);
    if (!received) co_return received.error();
    // Whatever comes once the VM has got its READY is framed and not for here; QEMU sends nothing
    // between the end of its initial stream and that.
    if (*received == 0) continue;
    const auto content = std::span<const std::byte>(piece).first(*received);
    const auto header = wire::encode_frame({wire::FrameType::stream, offset, content.size()});
    offset += content.size();
    const auto sent = co_await peer_.bulk().send(header, content);
    if (!sent) {
      peer_lost(sent.error());
      co_return Result<void>();
    }
    counters_.wire_bytes += header.size() + content.size();
  }
  co_return Result<void>();
}

Task<Result<void>> PrimarySession::relay_checkpoints() {
  colo::StreamParser parser;
  RelaySink sink;
  std::size_t parsed = 0;
  auto turn_ends = steady_clock::now() + turn_limit;
  while (stream_.is_open()) {
    if (!receiving_) {
      receiving_ = buffers_->take();
      if (!receiving_) {  // all are still being sent; VmSend of the next checkpoint waits in its
                          // socket
        co_await changed_.wait();
        continue;
      }
      parsed = 0;
    }
    const auto tail = receiving_->tail();
    if (tail.empty()) {
      co_return Error{Errc::limit, "a checkpoint larger than the VM can have (" +
                                       std::to_string(receiving_->capacity()) + " bytes)"};
    }
    const auto received = co_await receive_some(tail.first(std::min(tail.size(), receive_piece)));
    if (!received) co_return received.error();
    receiving_->extend(*received);

    const auto consumed = parser.parse(receiving_->bytes().subspan(parsed), sink, true);
    if (!consumed) co_return consumed.error();
    parsed += *consumed;
    if (sink.last == colo::Message::checkpoint_request) {
      // Not part of the checkpoint: the peer's daemon asks its own VM.
      receiving_->clear();
      parsed = 0;
      in_window_ = true;
      dispatch(VmRequest{});
    } else if (sink.last == colo::Message::vmstate_send) {
      vm_is_paused_ = true;
      const auto stopped_at = steady_clock::now();
      turn_ends = stopped_at + turn_limit;
      // A difference that is found while the epoch is closed is settled by this checkpoint.
      closing_epoch_ = true;
      auto next = Mode::periodic;
      if (machine_.phase() == PrimaryMachine::Phase::protecting) {
        next = pacer_.vm_stopped(machine_.last() + 1);
      }
      dispatch(VmSend{next});
      closing_epoch_ = false;
      if (machine_.phase() == PrimaryMachine::Phase::protecting) stopped_at_.push_back(stopped_at);
      const auto more = parser.parse(receiving_->bytes().subspan(parsed), sink, true);
      if (!more) co_return more.error();
      parsed += *more;
    }
    sink.last.reset();
    if (sink.ended) {
      if (parsed != receiving_->size()) {
        co_return Error{Errc::protocol, "bytes behind the end of a checkpoint"};
      }
      checkpoint_page_bytes_ = sink.pages * colo::page_size;
      counters_.dirty_bytes += checkpoint_page_bytes_;
      counters_.checkpoint_bytes_largest =
          std::max<std::uint64_t>(counters_.checkpoint_bytes_largest, receiving_->size());
      sink = RelaySink{};
      dispatch(VmCheckpoint{});
      vm_is_paused_ = false;
      changed_.notify();
    } else if (steady_clock::now() > turn_ends) {
      co_await asio::post(executor_, asio::use_awaitable);
      turn_ends = steady_clock::now() + turn_limit;
    }
  }
  co_return Result<void>();
}

void PrimarySession::answer_vm(std::initializer_list<colo::Message> messages) {
  std::array<std::byte, 8> bytes;
  std::size_t size = 0;
  for (const auto message : messages) {
    store_be(&bytes[size], static_cast<std::uint32_t>(message));
    size += 4;
  }
  // A few bytes always fit; if they do not, QEMU is not reading and its stream ends below.
  if (::send(stream_.native_handle(), bytes.data(), size, MSG_DONTWAIT | MSG_NOSIGNAL) !=
      static_cast<ssize_t>(size)) {
    boost::system::error_code ignored;
    stream_.cancel(ignored);
  }
}

void PrimarySession::close_stream() {
  boost::system::error_code ignored;
  if (stream_.is_open()) ::shutdown(stream_.native_handle(), SHUT_RDWR);
  stream_.close(ignored);
}

// ---- policies

Task<Result<void>> PrimarySession::set_policy(controller::Policy policy,
                                              controller::Parameters parameters) {
  const auto is_protected = [this] {
    return machine_.phase() == PrimaryMachine::Phase::protecting;
  };
  if (!is_protected()) co_return Error{Errc::conflict, settings_.vm + " is not protected"};
  if (policy != controller::Policy::periodic) {
    const bool had_mirrors = std::exchange(mirrors_wanted_, true);
    const auto mirrored = co_await start_mirrors();
    if (!mirrored) {
      mirrors_wanted_ = had_mirrors;
      co_return mirrored.error();
    }
    if (!is_protected())
      co_return Error{Errc::conflict, settings_.vm + " is not protected any more"};
  }
  pacer_.change(policy, parameters);
  mirrors_wanted_ = policy != controller::Policy::periodic;
  const auto wanted = pacer_.controller().last().mode;
  const auto decisions = pacer_.log().decisions();
  const auto deadline = steady_clock::now() + mode_change_limit;
  while (is_protected() && machine_.mode() != wanted && pacer_.log().decisions() == decisions) {
    if (steady_clock::now() > deadline) {
      co_return Error{Errc::timed_out,
                      "the policy is another one, but no checkpoint comes to change "
                      "the mode at"};
    }
    co_await changed_.wait_for(mode_poll);
  }
  if (!is_protected()) co_return Error{Errc::conflict, settings_.vm + " is not protected any more"};
  co_return Result<void>();
}

// ---- the peer

Task<Result<void>> PrimarySession::send_translations(const Shipment& shipment) {
  for (std::size_t nic = 0; nic < shipment.translations.size(); ++nic) {
    const auto& table = shipment.translations[nic];
    if (table == translations_sent_[nic]) continue;
    std::vector<std::byte> payload(4);
    store_be(payload.data(), static_cast<std::uint32_t>(nic));
    payload.insert(payload.end(), table.begin(), table.end());
    const auto header =
        wire::encode_frame({wire::FrameType::translations, shipment.number, payload.size()});
    const auto sent = co_await peer_.bulk().send(header, payload);
    if (!sent) co_return sent.error();
    counters_.wire_bytes += header.size() + payload.size();
    translations_sent_[nic] = table;
  }
  co_return Result<void>();
}

Task<void> PrimarySession::ship_checkpoints() {
  while (!finished_) {
    if (shipments_.empty()) {
      co_await changed_.wait();
      continue;
    }
    auto shipment = std::move(shipments_.front());
    shipments_.pop_front();
    auto left = shipment.buffer->bytes();
    const auto header =
        wire::encode_frame({wire::FrameType::checkpoint, shipment.number, left.size(),
                            shipment.mode == Mode::colo ? wire::flag_runs : 0});
    counters_.wire_bytes += header.size() + left.size() + wire::digest_size;
    auto sent = co_await send_translations(shipment);
    if (sent) sent = co_await peer_.bulk().send(header);
    checkpoint::Digester digester;
    digester.update(header);
    while (sent && !left.empty()) {
      // The VM waits for the next checkpoint to come in, and nobody for this one to go out.
      if (vm_is_paused_ && !machine_.answer_held()) {
        co_await changed_.wait();
        if (finished_) co_return;
        continue;
      }
      const auto piece = left.first(std::min(left.size(), ship_piece));
      left = left.subspan(piece.size());
      digester.update(piece);
      sent = co_await peer_.bulk().send(piece);
    }
    const auto digest = digester.finish();
    if (sent) sent = co_await peer_.bulk().send(digest);
    shipment.buffer.reset();
    changed_.notify();
    if (!sent) {
      co_await peer_.bulk_ended(sent.error());
      co_return;
    }
  }
}

Task<Result<void>> PrimarySession::hear(Frame frame) {
  switch (frame.header.type) {
    case wire::FrameType::setup_done:
      setup_done_ = true;
      // Until here the peer may have been busy starting QEMU; that has a limit of its own.
      peer_.expect_heartbeats();
      break;
    case wire::FrameType::failed:
      co_return Error{Errc::refused, settings_.peer + ": " + peer_text(frame.payload)};
    case wire::FrameType::return_path: {
      const auto buffer = asio::buffer(frame.payload);
      co_await asio::async_write(stream_, buffer, use_tuple);
      break;
    }
    case wire::FrameType::ready:
      dispatch(PeerReady{});
      break;
    case wire::FrameType::committed:
      dispatch(PeerCommitted{frame.header.number});
      tell_commit();
      break;
    case wire::FrameType::loaded:
      dispatch(PeerLoaded{frame.header.number});
      break;
    case wire::FrameType::ask:
      mismatched({proxy::Reason::overflow, {}, peer_text(frame.payload)});
      break;
    default:
      co_return Error{Errc::protocol, "the peer sent a " +
                                          std::string(to_string(frame.header.type)) +
                                          " frame, which only a primary sends"};
  }
  co_return Result<void>();
}

void PrimarySession::tell_commit() {
  // One is committed now, if the peer was right.
  while (stopped_at_.size() > machine_.last() - machine_.committed()) {
    if (observer_.committed) observer_.committed(steady_clock::now() - stopped_at_.front());
    stopped_at_.pop_front();
  }
}

void PrimarySession::peer_lost(Error error) {
  const auto phase = machine_.phase();
  const bool news = phase == PrimaryMachine::Phase::synchronising ||
                    phase == PrimaryMachine::Phase::protecting ||
                    phase == PrimaryMachine::Phase::handing_over;
  if (news) {
    failover_.begin(peer_.last_heard(), error.message);
    observer_.event(
        "peer-lost", settings_.peer + " is lost: " + error.message,
        {{"peer", settings_.peer}, {"silent_ms", failover_.times()->detection.count()}});
  }
  dispatch(PeerLost{std::move(error)});
}

// ---- the machine's decisions, carried out

void PrimarySession::dispatch(const PrimaryEvent& event) {
  const bool protected_before = ready_answered_;
  const auto actions = machine_.on(event);
  for (const auto& action : actions) {
    std::visit([this](const auto& a) { perform(a); }, action);
  }
  if (!protected_before && ready_answered_) {
    observer_.event("protected", settings_.vm + " is protected by " + settings_.peer,
                    {{"peer", settings_.peer}, {"generation", settings_.generation}});
  }
  changed_.notify();
}

void PrimarySession::perform(const AnswerReady&) {
  ready_answered_ = true;
  answer_vm({colo::Message::checkpoint_ready});
  pacer_.vm_runs(0);
}

void PrimarySession::perform(const AnswerReply&) {
  answer_vm({colo::Message::checkpoint_reply});
}

void PrimarySession::perform(const AnswerCheckpoint&) {
  vm_is_paused_ = false;
  answer_vm({colo::Message::vmstate_received, colo::Message::vmstate_loaded});
  pacer_.vm_runs(checkpoint_page_bytes_);
}

void PrimarySession::perform(const HoldOutput&) {
  for (const auto& channel : channels_) {
    const auto held = channel->hold_output();
    if (!held) nursery_.spawn(end_if_vm_lives(held.error()));
  }
}

void PrimarySession::perform(const CloseEpoch& action) {
  for (const auto& channel : channels_) {
    const auto closed = channel->close_epoch(action.epoch);
    if (!closed) nursery_.spawn(end_if_vm_lives(closed.error()));
  }
}

void PrimarySession::perform(const BeginEpoch& action) {
  const bool changes = epoch_mode_ != action.mode;
  epoch_ = action.epoch;
  epoch_mode_ = action.mode;
  in_window_ = false;
  for (std::size_t nic = 0; nic < channels_.size(); ++nic) {
    channels_[nic]->begin_epoch(action.mode);
    auto& window = window_[nic];
    if (action.mode == Mode::colo && window.count > 0) {
      send_input(nic, action.epoch, {window.bytes, window.count});
    }
    window = {};
  }
  if (changes) tell_mode();
  const bool mirrored = std::ranges::any_of(channels_, &NetChannel::mirrors);
  if (action.mode == Mode::periodic && mirrored && !mirrors_wanted_ && !mirrors_changing_) {
    nursery_.spawn(stop_mirrors());
  }
}

void PrimarySession::tell_mode() {
  const auto& controller = pacer_.controller();
  const auto reason = to_string(controller.last().reason);
  auto why = std::string(reason);
  for (const auto& figure : controller.figures()) {
    std::array<char, 32> value{};
    std::snprintf(value.data(), value.size(), " %.3g", figure.value);
    why += ", " + std::string(figure.name) + value.data();
  }
  observer_.event(
      "mode", settings_.vm + " runs in " + std::string(to_string(epoch_mode_)) + " mode: " + why,
      {{"mode", to_string(epoch_mode_)},
       {"checkpoint", epoch_},
       {"policy", to_string(controller.policy())},
       {"reason", reason},
       {"figures", control::to_json(controller.figures())}});
}

void PrimarySession::perform(const SecondaryEntered&) {
  for (const auto& channel : channels_) channel->secondary_entered();
}

void PrimarySession::perform(const ReleaseThrough& action) {
  for (const auto& channel : channels_) channel->release_through(action.epoch);
}

void PrimarySession::perform(const Ship& action) {
  // As of this checkpoint: until the VM is answered nothing is translated.
  std::vector<std::vector<std::byte>> translations;
  for (const auto& channel : channels_) {
    translations.push_back(proxy::encode(channel->translator().table()));
  }
  shipments_.push_back(
      {action.checkpoint, action.mode, std::move(receiving_), std::move(translations)});
}

void PrimarySession::perform(const TriggerCheckpoint&) {
  if (machine_.phase() != PrimaryMachine::Phase::protecting) return;
  pacer_.want_checkpoint();
}

Task<void> PrimarySession::ask_for_checkpoint() {
  if (machine_.phase() != PrimaryMachine::Phase::protecting) co_return;
  qmp::MigrationParameters parameters;
  parameters.checkpoint_delay_ms = checkpoint_delay_ms;
  // Setting it is the only way to ask, be it to what it was. If it fails, QEMU has ended and
  // vm_lost() follows, or the pacer asks again.
  (void)co_await qmp::set_parameters(*vm_.qmp, parameters);
}

void PrimarySession::perform(const TellPeer& action) {
  (void)peer_.post(action.type, action.number, action.text);
}

void PrimarySession::perform(const CloseLanes&) {
  peer_.close();
}

void PrimarySession::perform(const Claim& action) {
  nursery_.spawn(claim(action));
}

Task<void> PrimarySession::claim(Claim action) {
  if (action.delay > 0ms) co_await peer_.sleep(action.delay);
  const auto answer = co_await ask_arbiter(arbiter_, settings_, action, observer_);
  failover_.decided();
  std::visit([this](const auto& event) { dispatch(event); }, answer);
}

void PrimarySession::perform(const RunAlone&) {
  nursery_.spawn(run_alone());
}

Task<void> PrimarySession::run_alone() {
  auto& qmp = *vm_.qmp;
  close_stream();
  const auto told = co_await qmp::colo_lost_heartbeat(qmp);
  if (!told && told.error().code == Errc::refused) {
    // It has not entered COLO, or has left it: end a migration under way and let the VM run.
    (void)co_await qmp::migrate_cancel(qmp);
    const auto status = co_await qmp::query_status(qmp);
    if (status && !status->running) (void)co_await qmp::cont(qmp);
  }
  for (;;) {
    const auto running = co_await wait_until_running(qmp, run_alone_limit);
    if (running) break;
    if (running.error().code == Errc::closed) co_return;  // vm_lost() follows
    // It is the only copy of the VM: as long as its QEMU lives, a person may still bring it back.
    observer_.event("refused", "the VM does not go on: " + running.error().message, {});
    co_await peer_.sleep(1s);
  }
  failover_.running();
  dispatch(VmRunning{});
}

void PrimarySession::perform(const OpenGate&) {
  opening_ = true;
  nursery_.spawn(open_gate());
}

Task<void> PrimarySession::open_gate() {
  std::vector<NetChannel::Pointer> translating;
  for (const auto& channel : channels_) {
    Result<void> opened;
    if (channel->translator().idle()) {
      opened = co_await channel->detach_in_order(*vm_.qmp);
    } else {
      channel->become_solo();
      const auto on = co_await channel->switch_on(*vm_.qmp);
      if (!on) observer_.event("refused", on.error().message, {});
      if (channel->mirrors()) opened = co_await channel->stop_mirror(*vm_.qmp);
      translating.push_back(channel);
    }
    if (!opened) {
      observer_.event("refused", "filters of " + channel->netdev() + ": " + opened.error().message,
                      {});
    }
  }
  channels_ = std::move(translating);
  opening_ = false;
  changed_.notify();
}

void PrimarySession::perform(const KillVm&) {
  nursery_.spawn(kill_vm());
}

Task<void> PrimarySession::kill_vm() {
  co_await vm_.kill();
}

void PrimarySession::perform(const FinishPrimary& action) {
  finished_ = action;
}

}  // namespace tandem::session
