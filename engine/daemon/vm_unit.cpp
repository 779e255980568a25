#include "engine/daemon/vm_unit.hpp"

#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <random>

#include "engine/control/json.hpp"
#include "engine/daemon/vm_metrics.hpp"
#include "engine/daemon/vm_status.hpp"
#include "engine/session/net_channel.hpp"
#include "engine/transport/hello.hpp"
#include "engine/transport/tcp.hpp"
#include "qmp/commands.hpp"

namespace tandem::daemon {
namespace {

using namespace std::chrono_literals;
using std::chrono::system_clock;

constexpr auto connect_limit = 3s;
constexpr auto setup_limit = 5s;
constexpr auto probe_limit = 20'000ms;
constexpr auto crash_recovery_limit = 5s;
constexpr auto colo_end_limit = 2s;
constexpr auto claim_retry = 200ms;
constexpr auto translation_sweep = 1s;

std::string random_session() {
  std::random_device source;
  constexpr std::string_view digits = "0123456789abcdef";
  std::string text;
  for (int i = 0; i < 32; ++i) text += digits[source() % digits.size()];
  return text;
}

/// Marks a unit as changing for the length of a scope.
class Change {
 public:
  explicit Change(bool& flag) : flag_(flag) { flag_ = true; }
  ~Change() { flag_ = false; }
  Change(const Change&) = delete;
  Change& operator=(const Change&) = delete;

 private:
  bool& flag_;
};

}  // namespace

VmUnit::VmUnit(HostContext& host, hypervisor::VmDefinition definition, bool configured)
    : host_(host),
      name_(definition.name),
      definition_(std::move(definition)),
      book_(host.books.book(name_)),
      nursery_(thread_.executor()) {
  if (configured) configured_ = definition_;
}

VmUnit::~VmUnit() {
  thread_.stop();
  const auto spent = stop_clock_.spent(system_clock::now());
  metrics::Totals times;
  times.running_seconds = spent.running.count();
  times.stopped_seconds = spent.stopped.count();
  book_->close(times);
}

hypervisor::LocalHypervisor VmUnit::hypervisor() const {
  const auto probe = host_.qemu.get();
  return {host_.config.qemu, probe && *probe ? **probe : hypervisor::QemuProbe{},
          host_.config.run_dir};
}

std::string VmUnit::accelerator() const {
  const auto probe = host_.qemu.get();
  return probe && *probe ? std::string(to_string((*probe)->accelerator)) : "unknown";
}

Task<Result<void>> VmUnit::wait_for_probe() {
  // A daemon that has just started is still examining its QEMU.
  for (auto waited = 0ms; !host_.qemu.get() && waited < probe_limit; waited += 10ms) {
    co_await session::wait_for(10ms);
  }
  const auto probe = host_.qemu.get();
  if (!probe) co_return Error{Errc::timed_out, "QEMU could not be examined in time"};
  if (!*probe) co_return probe->error();
  co_return Result<void>();
}

Error VmUnit::state_error(const std::string& wanted) const {
  std::string state = "it is " + std::string(to_string(role_));
  if (role_ == Role::none) state = process_ ? "it runs unprotected" : "it is not running";
  if (changing_) state = "another change of it is under way";
  return {Errc::conflict, name_ + " cannot be " + wanted + ": " + state};
}

void VmUnit::event(std::string type, std::string message, nlohmann::json data) {
  host_.events.add(name_, std::move(type), std::move(message), std::move(data));
}

void VmUnit::save() {
  if (!process_) return;
  VmState state{definition_, process_->process, role_, generation_, peer_};
  translations_saved_ = 0;
  for (const auto& channel : translating_) {
    translations_saved_ += channel->translator().size();
    state.translations[channel->netdev()] = channel->translator().table();
  }
  const auto saved = host_.states.save(state);
  if (!saved) event("refused", "its state cannot be saved: " + saved.error().message);
}

void VmUnit::set_role(Role role, std::uint64_t generation, std::string peer) {
  role_ = role;
  generation_ = generation;
  peer_ = std::move(peer);
  save();
}

void VmUnit::forget_process() {
  if (qmp_) qmp_->close();
  qmp_.reset();
  for (const auto& channel : translating_) channel->close();
  translating_.clear();
  process_.reset();
  stop_clock_.halt(system_clock::now());
  role_ = Role::none;
  peer_.clear();
  busy_ = changing_;
  if (configured_) definition_ = *configured_;
  const auto removed = host_.states.remove(name_);
  if (!removed) event("refused", removed.error().message);
}

// ---- the QEMU process

Task<Result<void>> VmUnit::connect_monitor(const std::filesystem::path& socket) {
  auto client = co_await qmp::Client::connect(socket.string());
  if (!client) co_return with_context("monitor of " + name_, client.error());
  qmp_ = *client;
  qmp_->on_event([this](const qmp::Event& e) { on_event(e); });
  qmp_->on_close([this](const Error& e) { on_monitor_closed(e); });
  co_return Result<void>();
}

void VmUnit::on_event(const qmp::Event& e) {
  if (e.name == "STOP") stop_clock_.stopped(e.at);
  if (e.name == "RESUME") {
    const auto pause = stop_clock_.resumed(e.at);
    if (pause && primary_) primary_->vm_resumed(*pause);
    const bool at_checkpoint =
        primary_ && primary_->machine().phase() == session::PrimaryMachine::Phase::protecting;
    if (pause && at_checkpoint) book_->paused(*pause);
  }
  if (e.name == "SHUTDOWN") {
    const bool by_guest = e.data.is_object() && e.data.value("guest", false);
    if (by_guest) event("guest-shutdown", "the guest powered itself off");
    if (by_guest && primary_) primary_->vm_shut_down();
  }
}

void VmUnit::on_monitor_closed(const Error& error) {
  if (primary_) {
    event("vm-lost", "QEMU has ended: " + error.message);
    primary_->vm_lost(error);
  } else if (secondary_) {
    secondary_->vm_lost(error);
  } else if (process_ && !changing_) {
    event("vm-exited", "QEMU has ended: " + error.message);
    forget_process();
    nursery_.spawn(retire());
  }
}

Task<void> VmUnit::retire() {
  const auto record = co_await host_.arbiter.look(name_);
  const bool held = record && *record && (*record)->solo == host_.config.host;
  if (record && !held) co_return;
  const auto retired = co_await host_.arbiter.retire(name_, host_.config.host);
  if (!retired) event("refused", "arbiter: " + retired.error().message);
}

Task<Result<void>> VmUnit::start_process(hypervisor::StartMode mode) {
  const auto probed = co_await wait_for_probe();
  if (!probed) co_return probed.error();
  auto driver = hypervisor();
  auto started = co_await driver.start(definition_, mode);
  if (!started) co_return started.error();
  process_ = std::move(*started);
  const auto connected = co_await connect_monitor(process_->qmp_socket);
  if (!connected) {
    co_await kill_process();
    co_return connected.error();
  }
  co_return Result<void>();
}

Task<void> VmUnit::kill_process() {
  if (!process_) co_return;
  auto driver = hypervisor();
  const auto killed = co_await driver.kill(*process_);
  if (!killed) event("refused", "cannot kill its QEMU: " + killed.error().message);
}

Result<void> VmUnit::connect_network() {
  for (const auto& nic : definition_.nics) {
    if (nic.bridge.empty()) continue;
    const auto joined = hypervisor::set_bridge(nic.tap, nic.bridge);
    if (!joined) return joined.error();
  }
  return {};
}

Task<Result<void>> VmUnit::start() {
  if (changing_ || process_) co_return state_error("started");
  const Change change(changing_);
  // R8: a host that was away may have missed that the VM runs elsewhere by now.
  const auto verdict = co_await host_.arbiter.claim_start(name_, host_.config.host);
  if (!verdict) co_return with_context("arbiter", verdict.error());
  if (!verdict->granted) {
    co_return Error{Errc::conflict, name_ + " runs or is protected elsewhere, by " +
                                        verdict->holder + " (generation " +
                                        std::to_string(verdict->generation) +
                                        "); if it does not, stop it there first"};
  }
  generation_ = verdict->generation;
  busy_ = true;
  auto started = co_await start_process(hypervisor::StartMode::run);
  if (started) {
    started = connect_network();
    if (!started) co_await kill_process();
  }
  if (!started) {
    forget_process();
    busy_ = false;
    co_return started.error();
  }
  // After a failover the VM stays this host's until it is stopped, also over its own end.
  const auto record = co_await host_.arbiter.look(name_);
  const bool held = record && *record && (*record)->solo == host_.config.host;
  set_role(held ? Role::solo : Role::none, generation_, "");
  stop_clock_.restart(system_clock::now(), false);
  event("vm-started", "QEMU runs", {{"pid", process_->process.pid}});
  co_return Result<void>();
}

Task<Result<void>> VmUnit::stop() {
  if (changing_ || !process_ || primary_ || secondary_) co_return state_error("stopped");
  const Change change(changing_);
  co_await kill_process();
  forget_process();
  busy_ = false;
  co_await retire();
  event("vm-exited", "stopped by request");
  co_return Result<void>();
}

session::VmControl VmUnit::vm_control() {
  session::VmControl control;
  control.qmp = qmp_;
  for (const auto& nic : definition_.nics) control.netdevs.push_back(nic.id);
  control.channels = translating_;
  control.connect_network = [this] { return connect_network(); };
  control.kill = [this] { return kill_process(); };
  return control;
}

session::Observer VmUnit::observer() {
  return {
      [this](std::string type, std::string message, nlohmann::json data) {
        if (type == "protected" || type == "synchronised") {
          stop_clock_.restart(system_clock::now(), false);
        }
        event(std::move(type), std::move(message), std::move(data));
      },
      [this](session::Generation generation) { set_role(Role::solo, generation, peer_); },
      [this](std::chrono::duration<double> latency) { book_->committed(latency); },
  };
}

std::function<void(const session::ChannelCounters&)> VmUnit::channel_book() const {
  return [book = book_](const session::ChannelCounters& counters) {
    book->close(totals_of(counters));
  };
}

void VmUnit::note_failover(const session::FailoverTimes& times) {
  last_failover_ = failover_of(times, system_clock::now());
  metrics::Totals one;
  one.failovers = 1;
  book_->close(one);
}

// ---- the primary's side

Task<Result<void>> VmUnit::protect(std::string peer_name, PolicyChoice choice) {
  const auto& peers = host_.config.peers;
  const auto peer = std::ranges::find(peers, peer_name, &Peer::name);
  if (peer == peers.end()) {
    co_return Error{Errc::not_found, "there is no peer \"" + peer_name + "\" in the configuration"};
  }
  if (changing_ || !process_ || primary_ || secondary_) co_return state_error("protected");
  {
    const Change change(changing_);
    const auto begun = co_await begin_protection(*peer, std::move(choice));
    if (!begun) {
      last_error_ = begun.error().message;
      co_return begun.error();
    }
  }
  if (!primary_) co_return Error{Errc::closed, last_error_};
  const auto session = primary_;
  co_return co_await session->wait_until_protected();
}

Task<Result<session::Lanes>> VmUnit::connect_lanes(Peer peer) {
  session::Lanes lanes;
  const auto hello = nlohmann::json{
      {"host", host_.config.host},
      {"vm", name_},
      {"session", random_session()},
      {"version",
       TANDEM_VERSION}}.dump();
  const auto what = "peer " + peer.name + " (" + peer.address.host + ":" +
                    std::to_string(peer.address.port) + ")";
  for (const auto kind : {wire::LaneKind::bulk, wire::LaneKind::packet, wire::LaneKind::control}) {
    auto socket = co_await transport::connect_tcp(peer.address, connect_limit);
    if (!socket) co_return with_context(what, socket.error());
    lanes.local_address = transport::local_address(*socket);
    auto lane = transport::make_tcp_lane(std::move(*socket));
    const auto introduction = co_await transport::say_hello(*lane, kind, hello, connect_limit);
    if (!introduction) co_return with_context(what, introduction.error());
    const auto json = nlohmann::json::parse(*introduction, nullptr, false);
    const auto name = json.is_object() ? json.value("host", "") : "";
    if (name != peer.name) {
      co_return Error{Errc::refused,
                      what + " calls itself \"" + name + "\": correct the peer's name or address"};
    }
    auto& place = kind == wire::LaneKind::bulk     ? lanes.bulk
                  : kind == wire::LaneKind::packet ? lanes.packet
                                                   : lanes.control;
    place = std::move(lane);
  }
  co_return lanes;
}

Task<Result<void>> VmUnit::begin_protection(Peer peer, PolicyChoice choice) {
  auto parameters = host_.config.controller;
  const auto set = control::set_parameters(choice.parameters, parameters);
  if (!set) co_return set.error();
  const auto supported = hypervisor::check_version(qmp_->version());
  if (!supported) co_return supported.error();
  auto lanes = co_await connect_lanes(peer);
  if (!lanes) co_return lanes.error();
  const auto generation = co_await host_.arbiter.establish(name_, host_.config.host, peer.name);
  if (!generation) co_return with_context("arbiter", generation.error());

  session::Setup setup;
  setup.definition = definition_;
  setup.definition.autostart = false;
  auto& settings = setup.settings;
  settings.vm = name_;
  settings.host = host_.config.host;
  settings.peer = peer.name;
  settings.local_address = lanes->local_address;
  settings.generation = *generation;
  settings.heartbeat = host_.config.heartbeat;
  settings.heartbeat_timeout = host_.config.heartbeat_timeout;
  settings.policy = choice.policy.value_or(host_.config.policy);
  settings.parameters = parameters;
  settings.channel.compare.timeout = host_.config.colo_compare_timeout;
  settings.channel.counted = channel_book();
  settings.checkpoint_bytes_max = session::checkpoint_bytes_max(definition_.memory_mib);
  settings.colo_capabilities = hypervisor::colo_capabilities(qmp_->version());
  setup.qemu_version = to_string(qmp_->version());
  setup.accelerator = accelerator();
  setup.arbiter = host_.arbiter_name;

  failover_ = nullptr;
  last_error_.clear();
  policy_ = settings.policy;
  parameters_ = settings.parameters;
  set_role(Role::primary, *generation, peer.name);
  event("protecting", "synchronising with " + peer.name,
        {{"peer", peer.name}, {"generation", *generation}});
  primary_ = std::make_shared<session::PrimarySession>(
      thread_.executor(), settings, std::move(*lanes), vm_control(), host_.arbiter, observer());
  nursery_.spawn(run_primary(session::encode_setup(setup)));
  co_return Result<void>();
}

Task<void> VmUnit::run_primary(std::string setup) {
  using Outcome = session::FinishPrimary::Outcome;
  const auto finish = co_await primary_->run(std::move(setup));
  if (primary_->failover()) failover_ = to_json(*primary_->failover());
  const auto generation = primary_->machine().generation();
  const auto peer = peer_;
  keep_translating(primary_->take_channels());
  // Whoever waits for the pair to be protected still has to read its end.
  co_await asio::post(thread_.executor(), asio::use_awaitable);
  if (finish.outcome == Outcome::solo && primary_->failover()) {
    note_failover(*primary_->failover());
  }
  book_->close(totals_of(*primary_));
  primary_.reset();
  last_error_ = finish.reason.message;
  switch (finish.outcome) {
    case Outcome::solo:
      set_role(Role::solo, generation, "");
      nursery_.spawn(reset_capabilities());
      event("solo", "goes on unprotected: " + finish.reason.message,
            {{"generation", generation}, {"peer", peer}, {"failover", failover_}});
      break;
    case Outcome::unprotected:
      set_role(Role::solo, generation, "");
      nursery_.spawn(reset_capabilities());
      event("unprotected", "goes on unprotected, as requested", {{"generation", generation}});
      break;
    case Outcome::vm_lost:
    case Outcome::superseded:
      co_await kill_process();
      forget_process();
      // A claim that was under way when the VM died may have been granted.
      co_await retire();
      event("vm-exited", finish.reason.message, {{"peer", peer}});
      break;
    case Outcome::guest_shutdown:
      co_await kill_process();
      forget_process();
      co_await retire();
      event("unprotected", "the pair has ended: the guest powered itself off");
      break;
  }
}

void VmUnit::keep_translating(std::vector<session::NetChannel::Pointer> channels) {
  // A session that ended early has not taken all that it was given.
  for (const auto& channel : translating_) {
    const bool known = std::ranges::find(channels, channel) != channels.end();
    if (!known && channel->is_attached()) channels.push_back(channel);
  }
  translating_ = std::move(channels);
  for (const auto& channel : translating_) {
    session::NetChannel::Handlers handlers;
    // Its end is told by the monitor.
    handlers.failed = [this](const Error& error) {
      if (error.code != Errc::closed) event("refused", error.message);
    };
    channel->serve(std::move(handlers));
  }
  if (!translating_.empty() && !watching_translations_) nursery_.spawn(watch_translations());
}

Task<void> VmUnit::watch_translations() {
  watching_translations_ = true;
  while (!translating_.empty()) {
    co_await session::wait_for(translation_sweep);
    const auto now = std::chrono::steady_clock::now();
    std::size_t translations = 0;
    for (const auto& channel : translating_) {
      channel->translator().sweep(now);
      translations += channel->translator().size();
    }
    if (translations != translations_saved_) save();
    const auto idle = std::ranges::find_if(
        translating_, [](const auto& channel) { return channel->translator().idle(); });
    // A session that has taken the channels over keeps them until it ends.
    if (idle == translating_.end() || primary_ || changing_ || !qmp_) continue;
    const auto channel = *idle;
    const auto monitor = qmp_;
    translating_.erase(idle);
    const Change change(changing_);
    const auto detached = co_await channel->detach_in_order(*monitor);
    if (!detached) event("refused", detached.error().message);
  }
  watching_translations_ = false;
}

Task<Result<void>> VmUnit::set_policy(PolicyChoice choice) {
  if (!primary_ || changing_) co_return state_error("given another policy");
  auto parameters = parameters_;
  const auto set = control::set_parameters(choice.parameters, parameters);
  if (!set) co_return set.error();
  const auto policy = choice.policy.value_or(policy_);
  const Change change(changing_);
  const auto session = primary_;
  const auto changed = co_await session->set_policy(policy, parameters);
  const auto& controller = session->pacer().controller();
  // It may have changed although the mode has not yet followed.
  if (!changed && (controller.policy() != policy || controller.parameters() != parameters)) {
    co_return changed;
  }
  policy_ = policy;
  parameters_ = parameters;
  event("policy", "runs by policy " + std::string(to_string(policy)),
        {{"policy", to_string(policy)}, {"parameters", control::to_json(parameters)}});
  co_return changed;
}

Task<Result<void>> VmUnit::unprotect() {
  if (!primary_) co_return state_error("unprotected");
  primary_->unprotect();
  while (primary_) co_await session::wait_for(5ms);
  if (role_ != Role::solo) co_return Error{Errc::conflict, last_error_};
  co_return Result<void>();
}

Task<Result<void>> VmUnit::failover() {
  if (!primary_ || primary_->machine().phase() != session::PrimaryMachine::Phase::protecting) {
    co_return state_error("switched over");
  }
  const auto peer = peer_;
  primary_->switch_over();
  while (primary_) co_await session::wait_for(5ms);
  if (process_) co_return Error{Errc::conflict, peer + " did not take over: " + last_error_};
  co_return Result<void>();
}

// ---- the secondary's side

Task<void> VmUnit::serve_secondary(session::Lanes lanes, std::string primary) {
  using Outcome = session::FinishSecondary::Outcome;
  busy_ = true;
  // A peer that says nothing more must not keep the VM's name busy for ever.
  using namespace asio::experimental::awaitable_operators;
  asio::steady_timer deadline(thread_.executor(), setup_limit);
  auto first = co_await (session::receive_frame(*lanes.control, wire::LaneKind::control) ||
                         deadline.async_wait(use_tuple));
  Result<session::Setup> setup = Error{Errc::protocol, "the set-up of the pair was expected first"};
  if (first.index() == 1) {
    setup = Error{Errc::timed_out, "the set-up of the pair did not come"};
  } else {
    const auto& frame = std::get<0>(first);
    if (!frame) {
      setup = frame.error();
    } else if (frame->header.type == wire::FrameType::setup) {
      setup = session::decode_setup(frame->payload);
    }
  }
  Result<void> ready = setup ? Result<void>() : Result<void>(setup.error());
  if (setup && setup->definition.name != name_) {
    ready = Error{Errc::protocol, "the set-up is for VM \"" + setup->definition.name + "\""};
  }
  if (ready) ready = co_await prepare_secondary(*setup, lanes);
  if (!ready) {
    event("refused", primary + " cannot protect the VM here: " + ready.error().message);
    (void)co_await session::send_frame(*lanes.control, wire::FrameType::failed,
                                       ready.error().message);
    busy_ = process_.has_value();
    co_return;
  }

  const auto finish = co_await secondary_->run();
  if (secondary_->failover()) failover_ = to_json(*secondary_->failover());
  const auto generation = secondary_->machine().generation();
  if (finish.outcome == Outcome::promoted) keep_translating(secondary_->take_channels());
  if (finish.outcome == Outcome::promoted && secondary_->failover()) {
    note_failover(*secondary_->failover());
  }
  book_->close(totals_of(*secondary_));
  secondary_.reset();
  last_error_ = finish.reason.message;
  if (finish.outcome == Outcome::promoted) {
    set_role(Role::solo, generation, "");
    stop_clock_.restart(system_clock::now(), false);
    nursery_.spawn(reset_capabilities());
    event("promoted", "the VM goes on here",
          {{"generation", generation}, {"peer", primary}, {"failover", failover_}});
  } else if (finish.outcome == Outcome::failed && qmp_ && qmp_->is_open()) {
    // It is the only copy left; what to do with it is for a person to say.
    set_role(Role::solo, generation, "");
    event("vm-lost", "the VM does not go on here: " + finish.reason.message, {{"peer", primary}});
  } else {
    co_await kill_process();
    forget_process();
    busy_ = false;
    event(finish.outcome == Outcome::failed ? "vm-lost" : "unprotected",
          "the secondary VM has ended: " + finish.reason.message, {{"peer", primary}});
  }
}

Task<Result<void>> VmUnit::prepare_secondary(session::Setup setup, session::Lanes& lanes) {
  if (changing_ || process_ || primary_ || secondary_) co_return state_error("a secondary");
  const Change change(changing_);
  if (setup.settings.peer != host_.config.host) {
    co_return Error{Errc::refused, "the primary takes this host for \"" + setup.settings.peer +
                                       "\"; it is \"" + host_.config.host + "\""};
  }
  if (setup.arbiter != host_.arbiter_name) {
    co_return Error{Errc::refused, "the hosts ask different arbiters: " + setup.arbiter +
                                       " there, " + host_.arbiter_name + " here"};
  }
  if (setup.settings.heartbeat_timeout < 2 * setup.settings.heartbeat) {
    co_return Error{Errc::invalid_input,
                    "the primary's heartbeat timeout is less than two heartbeats"};
  }
  definition_ = setup.definition;
  const auto started = co_await start_process(hypervisor::StartMode::incoming);
  if (!started) {
    forget_process();
    co_return started.error();
  }
  const auto qemu = to_string(qmp_->version()) + " with " + accelerator();
  const auto theirs = setup.qemu_version + " with " + setup.accelerator;
  if (qemu != theirs) {
    co_await kill_process();
    forget_process();
    co_return Error{Errc::refused, "QEMU is " + theirs + " there and " + qemu +
                                       " here: both hosts need the same version and accelerator"};
  }
  auto settings = setup.settings;
  // Ours, not theirs: what is set in our QEMU is for us to say, and the versions are the same.
  settings.colo_capabilities = hypervisor::colo_capabilities(qmp_->version());
  std::swap(settings.host, settings.peer);
  settings.local_address = lanes.local_address;
  settings.channel.counted = channel_book();
  failover_ = nullptr;
  policy_ = settings.policy;
  parameters_ = settings.parameters;
  set_role(Role::secondary, settings.generation, settings.peer);
  secondary_ = std::make_unique<session::SecondarySession>(
      thread_.executor(), settings, std::move(lanes), vm_control(), host_.arbiter, observer());
  co_return Result<void>();
}

// ---- after a crash, and at the end

Task<void> VmUnit::recover(VmState state) {
  definition_ = state.definition;
  auto driver = hypervisor();
  auto adopted = driver.adopt(name_, state.process);
  if (!adopted) {
    event("vm-exited", "its QEMU ended while no daemon watched");
    process_.reset();
    forget_process();
    co_return;
  }
  const Change change(changing_);
  busy_ = true;
  process_ = std::move(*adopted);
  role_ = state.role;
  generation_ = state.generation;
  peer_ = state.peer;
  const auto connected = co_await connect_monitor(process_->qmp_socket);
  if (!connected) {
    event("refused", "its monitor does not answer: " + connected.error().message);
    co_return;
  }
  if (role_ == Role::primary || role_ == Role::secondary) {
    // A member of a pair that has lost its daemon asks like one that has lost its peer. A secondary
    // does not ask: what was committed and not loaded went with the daemon. But it may have been
    // told yes.
    const auto record = co_await host_.arbiter.look(name_);
    const bool chosen = record && *record && (*record)->solo == host_.config.host;
    if (role_ == Role::secondary && !chosen) {
      co_await kill_process();
      forget_process();
      busy_ = false;
      event("daemon-recovered", "the secondary VM was given up: its daemon had died");
      co_return;
    }
    for (;;) {
      const auto verdict =
          co_await host_.arbiter.claim_solo(name_, state.generation, host_.config.host);
      if (verdict && !verdict->granted) {
        co_await kill_process();
        forget_process();
        busy_ = false;
        event("arbiter-denied", verdict->holder + " goes on with the VM; this one was stopped",
              {{"generation", verdict->generation}});
        co_return;
      }
      if (verdict) {
        set_role(Role::solo, verdict->generation, "");
        break;
      }
      event("arbiter-silent", verdict.error().message);
      co_await session::wait_for(claim_retry);
    }
    if (state.role == Role::secondary) {
      event("refused",
            "checkpoints that were committed and not loaded are lost with the former daemon");
      const auto joined = connect_network();
      if (!joined) event("refused", joined.error().message);
    }
  }
  co_await go_alone_after_crash();
  co_await translate_after_crash(state.translations);
  if (state.role == Role::secondary) (void)co_await qmp::announce_self(*qmp_);
  stop_clock_.restart(system_clock::now(), false);
  event("daemon-recovered",
        "the VM goes on" + std::string(role_ == Role::solo ? ", unprotected" : ""),
        {{"generation", generation_}});
}

Task<void> VmUnit::go_alone_after_crash() {
  const auto told = co_await qmp::colo_lost_heartbeat(*qmp_);
  const auto status = co_await qmp::query_status(*qmp_);
  if (!told && status && !status->running && status->state != "shutdown") {
    (void)co_await qmp::migrate_cancel(*qmp_);
    (void)co_await qmp::cont(*qmp_);
  }
  const auto running = co_await session::wait_until_running(*qmp_, crash_recovery_limit);
  if (!running) event("refused", running.error().message);
  // QEMU switches filters off when it leaves COLO: those that come now must come after that.
  if (told) (void)co_await session::wait_until_colo_has_ended(*qmp_, colo_end_limit);
  const auto removed = co_await session::remove_leftover_filters(*qmp_);
  if (!removed) event("refused", "filters: " + removed.error().message);
}

Task<void> VmUnit::translate_after_crash(
    std::map<std::string, proxy::TranslationTable> translations) {
  std::vector<session::NetChannel::Pointer> channels;
  for (const auto& [netdev, table] : translations) {
    if (table.empty()) continue;
    session::ChannelSettings settings;
    settings.counted = channel_book();
    auto channel = co_await session::NetChannel::attach_solo(*qmp_, netdev, table, settings);
    if (channel) {
      channels.push_back(*channel);
    } else {
      event("refused", "connections that were translated are lost: " + channel.error().message);
    }
  }
  keep_translating(std::move(channels));
}

Task<void> VmUnit::reset_capabilities() {
  const auto client = qmp_;
  if (!client) co_return;
  // The capabilities must not change under QEMU's COLO threads; if those do not end, they stay set.
  const auto ended = co_await session::wait_until_colo_has_ended(*client, colo_end_limit);
  if (!ended || primary_ || secondary_) co_return;
  std::vector<std::pair<std::string, bool>> off;
  for (auto& name : hypervisor::colo_capabilities(client->version())) {
    off.emplace_back(std::move(name), false);
  }
  (void)co_await qmp::set_capabilities(*client, off);
}

Task<void> VmUnit::release() {
  if (primary_) {
    primary_->unprotect();
  } else if (secondary_) {
    secondary_->leave("the daemon of " + host_.config.host + " is being stopped");
  }
  while (primary_ || secondary_) co_await session::wait_for(5ms);
  if (translating_.empty() || !qmp_) co_return;
  // The next daemon goes on translating; until then the VM's other connections are not to suffer.
  const auto monitor = qmp_;
  save();
  const auto channels = std::exchange(translating_, {});
  for (const auto& channel : channels) {
    const auto detached = co_await channel->detach_in_order(*monitor);
    if (!detached) event("refused", detached.error().message);
  }
}

}  // namespace tandem::daemon
