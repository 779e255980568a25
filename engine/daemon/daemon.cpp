#include "engine/daemon/daemon.hpp"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>

#include "base/file.hpp"
#include "engine/arbiter/local.hpp"
#include "engine/control/json.hpp"
#include "engine/daemon/probe_cache.hpp"
#include "engine/metrics/exposition.hpp"
#include "engine/transport/tcp.hpp"
#include "engine/web/site.hpp"

namespace tandem::daemon {
namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;

constexpr auto life_sign_interval = 25ms;
constexpr auto clear_up_limit = 2s;
constexpr auto shut_down_limit = 5s;
constexpr std::uint64_t wait_ms_max = 60'000;

/// Runs on its own and may not fail quietly.
void start_coroutine(const asio::any_io_executor& executor, Task<void> task) {
  asio::co_spawn(executor, std::move(task), [](const std::exception_ptr& exception) {
    if (exception) std::rethrow_exception(exception);
  });
}

/// JSON converts to so much that Result cannot tell it from an error by itself.
Result<nlohmann::json> answer(nlohmann::json json) {
  return {boost::system::in_place_value, std::move(json)};
}

Result<void> make_private_directory(const std::filesystem::path& path) {
  std::error_code ec;
  const bool created = std::filesystem::create_directories(path, ec);
  if (ec) return system_error("cannot create " + path.string(), ec.value());
  if (created) std::filesystem::permissions(path, std::filesystem::perms::owner_all, ec);
  return {};
}

nlohmann::json to_json(const hypervisor::QemuProbe& probe) {
  return {{"version", qmp::to_string(probe.version)},
          {"accel", to_string(probe.accelerator)},
          {"shim", probe.shim},
          {"accel_reason", probe.accelerator_reason}};
}

/// What a peer's `tandem doctor` compares with its own host.
std::string introduction(const HostContext& host) {
  const auto probe = host.qemu.get();
  const auto machine = read_file("/proc/sys/kernel/random/boot_id");
  const std::chrono::duration<double> now = std::chrono::system_clock::now().time_since_epoch();
  return nlohmann::json{{"host", host.config.host},
                        {"version", TANDEM_VERSION},
                        {"qemu", probe && *probe ? to_json(**probe) : nlohmann::json()},
                        {"arbiter", host.arbiter_name},
                        {"machine", machine ? machine->substr(0, machine->find('\n')) : ""},
                        {"time", now.count()}}
      .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

/// The policy and parameters in a request's body, where nothing else may be but perhaps a peer.
Result<PolicyChoice> policy_choice(const nlohmann::json& body, const std::string& action,
                                   bool with_peer) {
  PolicyChoice choice;
  for (const auto& [key, value] : body.items()) {
    const bool is_text = (key == "peer" && with_peer) || key == "policy";
    if (!(is_text && value.is_string()) && !(key == "parameters" && value.is_object())) {
      return Error{Errc::invalid_input, action + ": \"" + key + "\" is unknown or not of its type"};
    }
  }
  if (body.contains("policy")) {
    const auto policy = control::policy_from_string(body["policy"].get<std::string>());
    if (!policy) return with_context(action, policy.error());
    choice.policy = *policy;
  }
  choice.parameters = body.value("parameters", nlohmann::json::object());
  return choice;
}

}  // namespace

Daemon::Daemon(Config config, int life_sign_fd)
    : config_(std::move(config)),
      life_sign_fd_(life_sign_fd),
      states_(config_.state_dir),
      arbiter_(std::make_unique<arbiter::LocalArbiter>(config_.arbiter_directory)),
      host_{
          config_, events_, states_, *arbiter_, "local:" + config_.arbiter_directory.string(),
      },
      reception_(context_.get_executor(), reception_handlers()),
      new_event_(context_.get_executor()) {}

Daemon::~Daemon() = default;

Result<void> Daemon::prepare() {
  for (const auto& path : {config_.state_dir, config_.run_dir, config_.arbiter_directory}) {
    const auto made = make_private_directory(path);
    if (!made) return made.error();
  }
  const auto lock_path = config_.state_dir / "lock";
  state_lock_.reset(::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!state_lock_) return system_error("cannot open " + lock_path.string(), errno);
  if (::flock(state_lock_.get(), LOCK_EX | LOCK_NB) != 0) {
    return Error{Errc::conflict, "another tandemd uses " + config_.state_dir.string() +
                                     ": every daemon needs a host.state_dir of its own"};
  }
  auto prepared = states_.prepare();
  if (!prepared) return prepared.error();

  auto server =
      api::Server::listen(context_.get_executor(), config_.api_socket,
                          [this](api::Request request) { return handle(std::move(request)); });
  if (!server) return server.error();
  api_ = std::move(*server);

  auto listens = reception_.listen(config_.listen);
  if (listens) listen_for_browsers();
  return listens;
}

void Daemon::listen_for_browsers() {
  if (!config_.web_listen) return;
  const asio::ip::tcp::endpoint address(asio::ip::make_address(config_.web_listen->host),
                                        config_.web_listen->port);
  auto names = config_.web_names;
  names.push_back(config_.host);
  const web::Sources sources{
      [this] { return metrics(); },
      [this](api::Request request) { return handle(std::move(request)); },
  };
  auto server = api::WebServer::listen(
      context_.get_executor(), address, std::move(names),
      [sources](api::Request request) { return web::answer(std::move(request), sources); });
  if (server) {
    web_ = std::move(*server);
    const auto* const who = address.address().is_loopback() ? "this host's users" : "anybody there";
    spdlog::info("the page and the metrics are on {}:{}, for {} to read", config_.web_listen->host,
                 address.port(), who);
  } else {
    events_.add("", "refused",
                "no page and no metrics: " + server.error().message +
                    "; web.listen in the configuration names another address, or none",
                {});
  }
}

Result<void> Daemon::run() {
  const auto prepared = prepare();
  if (!prepared) return prepared.error();
  events_.on_new([this] { asio::post(context_, [this] { new_event_.notify(); }); });
  asio::signal_set signals(context_, SIGTERM, SIGINT);
  signals.async_wait([this](boost::system::error_code ec, int) {
    if (!ec) start_coroutine(context_.get_executor(), shut_down());
  });
  start_coroutine(context_.get_executor(), beat());
  start_coroutine(context_.get_executor(), start());
  start_coroutine(context_.get_executor(), api_->serve());
  if (web_) start_coroutine(context_.get_executor(), web_->serve());
  start_coroutine(context_.get_executor(), reception_.serve());
  context_.run();
  events_.on_new({});
  units_.clear();
  return {};
}

template <class T>
Task<T> Daemon::on(UnitPointer unit, Task<T> call) {
  co_return co_await asio::co_spawn(unit->executor(), std::move(call), asio::use_awaitable);
}

Daemon::UnitPointer Daemon::find(const std::string& name) const {
  const auto found = units_.find(name);
  return found == units_.end() ? nullptr : found->second;
}

const hypervisor::VmDefinition* Daemon::configured(const std::string& name) const {
  const auto found = std::ranges::find(config_.vms, name, &hypervisor::VmDefinition::name);
  return found == config_.vms.end() ? nullptr : &*found;
}

Daemon::UnitPointer Daemon::make_unit(const std::string& name, hypervisor::VmDefinition otherwise) {
  auto& place = units_[name];
  if (!place) {
    const auto* own = configured(name);
    place = std::make_shared<VmUnit>(host_, own ? *own : std::move(otherwise), own != nullptr);
  }
  return place;
}

void Daemon::forget_if_idle(const std::string& name) {
  const auto unit = find(name);
  if (unit && !configured(name) && !unit->busy()) units_.erase(name);
}

Task<void> Daemon::start() {
  // Recovery first: a VM whose daemon died is mute until it is done (R10).
  std::vector<Error> errors;
  for (auto& state : states_.load_all(errors)) {
    const auto unit = make_unit(state.definition.name, state.definition);
    start_coroutine(unit->executor(), unit->recover(std::move(state)));
  }
  for (const auto& error : errors) events_.add("", "refused", error.message, {});
  for (const auto& vm : config_.vms) make_unit(vm.name, vm);

  auto probed = co_await probe_qemu();
  if (!probed) events_.add("", "refused", probed.error().message, {});
  host_.qemu.set(std::move(probed));
  for (const auto& vm : config_.vms) {
    const auto unit = find(vm.name);
    if (!vm.autostart || unit->busy()) continue;
    const auto started = co_await on(unit, unit->start());
    if (!started)
      events_.add(vm.name, "refused", "it did not start: " + started.error().message, {});
  }
}

Task<Result<hypervisor::QemuProbe>> Daemon::probe_qemu() {
  const ProbeCache cache(config_.state_dir / "qemu-probe.json");
  if (const auto known = cache.load(config_.qemu)) co_return *known;
  const auto probe = co_await hypervisor::probe(config_.qemu);
  if (!probe) co_return probe.error();
  const auto saved = cache.save(config_.qemu, *probe);
  if (!saved) spdlog::warn("{}", saved.error().message);
  co_return *probe;
}

Task<void> Daemon::beat() {
  asio::steady_timer timer(context_);
  while (!stopping_) {
    const bool alive = std::ranges::all_of(
        units_, [&](const auto& entry) { return entry.second->idle_for() < config_.hang_timeout; });
    if (alive && life_sign_fd_ >= 0) {
      const char sign = '.';
      // A full pipe is a guardian that does not read; it has its own supervisor.
      [[maybe_unused]] const auto n = ::write(life_sign_fd_, &sign, 1);
    }
    reception_.sweep();
    timer.expires_after(life_sign_interval);
    co_await timer.async_wait(use_tuple);
  }
}

Task<void> Daemon::shut_down() {
  using namespace asio::experimental::awaitable_operators;
  spdlog::info("stopping; protected VMs go on unprotected");
  reception_.close();
  asio::steady_timer deadline(context_, shut_down_limit);
  for (auto& [name, unit] : units_) {
    co_await (on(unit, unit->release()) || deadline.async_wait(use_tuple));
  }
  stopping_ = true;
  api_->close();
  if (web_) web_->close();
  context_.stop();
}

// ---- peers

Reception::Handlers Daemon::reception_handlers() {
  Reception::Handlers handlers;
  handlers.admit = [this](std::string vm, std::string peer) { return admit(vm, peer); };
  handlers.arrived = [this](Arrival arrival) {
    start_coroutine(context_.get_executor(), serve_pair(std::move(arrival)));
  };
  handlers.refused = [this](const std::string& vm, const Error& error) {
    events_.add(vm, "refused", "connection from a peer: " + error.message, {});
  };
  handlers.introduction = [this] { return introduction(host_); };
  return handlers;
}

Task<Result<void>> Daemon::admit(std::string vm, std::string peer) {
  if (peer == config_.host) {
    co_return Error{Errc::refused,
                    "this host is called " + peer + " too: give every host its own name"};
  }
  const auto unit = find(vm);
  if (!unit) co_return Result<void>();
  // A pair that has just ended still clears up.
  asio::steady_timer timer(context_);
  const auto deadline = steady_clock::now() + clear_up_limit;
  while (unit->busy() && steady_clock::now() < deadline) {
    timer.expires_after(20ms);
    co_await timer.async_wait(use_tuple);
  }
  if (unit->busy()) {
    co_return Error{Errc::conflict,
                    "VM " + vm + " runs or is protected on " + config_.host + " already"};
  }
  co_return Result<void>();
}

Task<void> Daemon::serve_pair(Arrival arrival) {
  hypervisor::VmDefinition definition;
  definition.name = arrival.vm;
  const auto unit = make_unit(arrival.vm, std::move(definition));
  const auto lane = [&](wire::LaneKind kind) {
    auto socket = transport::move_to(std::move(arrival.sockets.at(kind)), unit->executor());
    return transport::make_tcp_lane(std::move(socket));
  };
  session::Lanes lanes;
  lanes.local_address = transport::local_address(arrival.sockets.at(wire::LaneKind::control));
  lanes.bulk = lane(wire::LaneKind::bulk);
  lanes.packet = lane(wire::LaneKind::packet);
  lanes.control = lane(wire::LaneKind::control);
  co_await on(unit, unit->serve_secondary(std::move(lanes), arrival.peer));
  forget_if_idle(arrival.vm);
}

// ---- the API; docs/api.md describes it

Task<Result<nlohmann::json>> Daemon::handle(api::Request request) {
  const std::string prefix = "/v1/vms/";
  if (request.method == "GET" && request.path == "/v1/status") co_return co_await status();
  if (request.method == "GET" && request.path == "/v1/events") co_return co_await events(request);
  if (request.path.starts_with(prefix)) {
    const auto rest = request.path.substr(prefix.size());
    const auto slash = rest.find('/');
    const auto action = slash == std::string::npos ? "" : rest.substr(slash + 1);
    co_return co_await handle_vm(request, rest.substr(0, slash), action);
  }
  co_return Error{Errc::not_found, request.method + " " + request.path + " is not part of the API"};
}

Task<Result<nlohmann::json>> Daemon::handle_vm(api::Request request, std::string name,
                                               std::string action) {
  const auto unit = find(name);
  if (!unit) {
    co_return Error{Errc::not_found, "there is no VM \"" + name + "\" on " + config_.host};
  }
  if (request.method == "GET" && action.empty())
    co_return answer(co_await on(unit, unit->status()));
  if (request.method == "GET" && (action == "trace" || action == "observations")) {
    const auto after = api::query_number(request, "after", 0, UINT64_MAX);
    if (!after) co_return after.error();
    const auto wait_ms = api::query_number(request, "wait_ms", 0, wait_ms_max);
    if (!wait_ms) co_return wait_ms.error();
    const std::chrono::milliseconds wait(*wait_ms);
    if (action == "trace") co_return co_await on(unit, unit->trace(*after, wait));
    co_return co_await on(unit, unit->observations(*after, wait));
  }
  if (request.method != "POST") {
    co_return Error{Errc::not_found,
                    request.method + " " + request.path + " is not part of the API"};
  }
  Result<void> done;
  if (action == "protect") {
    if (!request.body.contains("peer"))
      co_return Error{Errc::invalid_input, "protect: \"peer\" is missing"};
    const auto choice = policy_choice(request.body, "protect", true);
    if (!choice) co_return choice.error();
    const std::string peer = request.body["peer"];
    done = co_await on(unit, unit->protect(peer, *choice));
  } else if (action == "policy") {
    if (request.body.empty()) {
      co_return Error{Errc::invalid_input,
                      "policy: neither \"policy\" nor \"parameters\" is given"};
    }
    const auto choice = policy_choice(request.body, "policy", false);
    if (!choice) co_return choice.error();
    done = co_await on(unit, unit->set_policy(*choice));
  } else if (action == "unprotect") {
    done = co_await on(unit, unit->unprotect());
  } else if (action == "failover") {
    done = co_await on(unit, unit->failover());
  } else if (action == "start") {
    done = co_await on(unit, unit->start());
  } else if (action == "stop") {
    done = co_await on(unit, unit->stop());
  } else {
    co_return Error{Errc::not_found, "there is no action \"" + action + "\" for a VM"};
  }
  if (!done) co_return done.error();
  co_return answer(co_await on(unit, unit->status()));
}

Task<Result<nlohmann::json>> Daemon::status() {
  nlohmann::json vms = nlohmann::json::array();
  std::vector<UnitPointer> all;
  for (const auto& [name, unit] : units_) all.push_back(unit);
  for (const auto& unit : all) vms.push_back(co_await on(unit, unit->status()));
  const auto probe = host_.qemu.get();
  nlohmann::json json{{"host", config_.host},
                      {"version", TANDEM_VERSION},
                      {"guardian_pid", life_sign_fd_ >= 0 ? ::getppid() : 0},
                      {"worker_pid", ::getpid()},
                      {"qemu", probe && *probe ? to_json(**probe) : nlohmann::json()},
                      {"vms", std::move(vms)}};
  co_return answer(std::move(json));
}

Task<std::string> Daemon::metrics() {
  std::vector<UnitPointer> all;
  for (const auto& [name, unit] : units_) all.push_back(unit);
  std::vector<metrics::VmSample> vms;
  for (const auto& unit : all) vms.push_back(co_await on(unit, unit->sample()));
  metrics::HostSample host;
  host.host = config_.host;
  host.version = TANDEM_VERSION;
  if (const auto probe = host_.qemu.get(); probe && *probe) {
    host.qemu_version = qmp::to_string((*probe)->version);
    host.accelerator = to_string((*probe)->accelerator);
  }
  host.events = events_.counts();
  metrics::measure_process(host);
  co_return metrics::to_text(metrics::collect(host, vms));
}

Task<Result<nlohmann::json>> Daemon::events(api::Request request) {
  using namespace asio::experimental::awaitable_operators;
  const auto after = api::query_number(request, "after", 0, UINT64_MAX);
  if (!after) co_return after.error();
  const auto wait_ms = api::query_number(request, "wait_ms", 0, wait_ms_max);
  if (!wait_ms) co_return wait_ms.error();
  asio::steady_timer deadline(context_, std::chrono::milliseconds(*wait_ms));
  while (events_.last() <= *after && deadline.expiry() > steady_clock::now() && !stopping_) {
    co_await (new_event_.wait() || deadline.async_wait(use_tuple));
  }
  nlohmann::json list = nlohmann::json::array();
  for (const auto& event : events_.after(*after)) list.push_back(to_json(event));
  nlohmann::json json{{"events", std::move(list)}, {"next", std::max(events_.last(), *after)}};
  co_return answer(std::move(json));
}

}  // namespace tandem::daemon
