#include "engine/daemon/daemon.hpp"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>

#include "base/file.hpp"
#include "engine/arbiter/local.hpp"
#include "engine/transport/tcp.hpp"

namespace tandem::daemon {
namespace {

using namespace std::chrono_literals;
using asio::ip::tcp;
using std::chrono::steady_clock;

constexpr auto life_sign_interval = 25ms;
constexpr auto hello_limit = 3s;
constexpr auto lanes_limit = 5s;
constexpr auto shut_down_limit = 5s;
constexpr std::size_t greeting_max = 64;
constexpr std::size_t arrivals_max = 64;
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

std::string accelerator_key(const hypervisor::QemuConfig& qemu) {
  std::error_code ec;
  const auto time = std::filesystem::last_write_time(qemu.binary, ec).time_since_epoch().count();
  const auto size = std::filesystem::file_size(qemu.binary, ec);
  std::string key = qemu.binary.string() + "|" + std::to_string(time) + "|" + std::to_string(size) +
                    "|" + qemu.accel + "|" + qemu.tcg_shim.string();
  for (const auto& argument : qemu.arguments) key += "|" + argument;
  return key;
}

nlohmann::json to_json(const hypervisor::QemuProbe& probe) {
  return {{"version", qmp::to_string(probe.version)},
          {"accel", to_string(probe.accelerator)},
          {"shim", probe.shim},
          {"accel_reason", probe.accelerator_reason}};
}

/// What a peer's `tandem doctor` compares with its own host.
std::string introduction(const HostContext& host) {
  const auto probe = host.qemu.load();
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

}  // namespace

Daemon::Daemon(Config config, int life_sign_fd)
    : config_(std::move(config)),
      life_sign_fd_(life_sign_fd),
      states_(config_.state_dir),
      arbiter_(std::make_unique<arbiter::LocalArbiter>(config_.arbiter_directory)),
      host_{config_, events_, states_, *arbiter_, "local:" + config_.arbiter_directory.string(),
            nullptr},
      acceptor_(context_),
      new_event_(context_.get_executor()) {}

Daemon::~Daemon() = default;

Result<void> Daemon::prepare() {
  for (const auto& path : {config_.state_dir, config_.run_dir, config_.arbiter_directory}) {
    const auto made = make_private_directory(path);
    if (!made) return made.error();
  }
  auto prepared = states_.prepare();
  if (!prepared) return prepared.error();

  auto server =
      api::Server::listen(context_.get_executor(), config_.api_socket,
                          [this](api::Request request) { return handle(std::move(request)); });
  if (!server) return server.error();
  api_ = std::move(*server);

  boost::system::error_code ec;
  const auto address = asio::ip::make_address(config_.listen.host, ec);
  if (ec) {
    return Error{Errc::invalid_input,
                 "replication.listen: \"" + config_.listen.host + "\" is no address"};
  }
  const tcp::endpoint endpoint(address, config_.listen.port);
  acceptor_.open(endpoint.protocol(), ec);
  if (!ec) acceptor_.set_option(tcp::acceptor::reuse_address(true), ec);
  if (!ec) acceptor_.bind(endpoint, ec);
  if (!ec) acceptor_.listen(64, ec);
  if (ec) {
    return system_error(
        "cannot listen on " + config_.listen.host + ":" + std::to_string(config_.listen.port),
        ec.value());
  }
  return {};
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
  start_coroutine(context_.get_executor(), accept_peers());
  context_.run();
  events_.on_new({});
  units_.clear();
  return {};
}

template <class T>
Task<T> Daemon::on(VmUnit& unit, Task<T> call) {
  co_return co_await asio::co_spawn(unit.executor(), std::move(call), asio::use_awaitable);
}

VmUnit* Daemon::find(const std::string& name) {
  const auto found = units_.find(name);
  return found == units_.end() ? nullptr : found->second.get();
}

VmUnit& Daemon::make_unit(hypervisor::VmDefinition definition) {
  const auto name = definition.name;
  auto& place = units_[name];
  if (!place) place = std::make_unique<VmUnit>(host_, std::move(definition));
  return *place;
}

Task<void> Daemon::start() {
  // Recovery first: a VM whose daemon died is mute until it is done (R10).
  std::vector<Error> errors;
  for (auto& state : states_.load_all(errors)) {
    auto& unit = make_unit(state.definition);
    start_coroutine(unit.executor(), unit.recover(std::move(state)));
  }
  for (const auto& error : errors) events_.add("", "refused", error.message, {});
  for (const auto& vm : config_.vms) make_unit(vm);

  auto probed = co_await probe_qemu();
  if (!probed) events_.add("", "refused", probed.error().message, {});
  host_.qemu = std::make_shared<const Result<hypervisor::QemuProbe>>(std::move(probed));
  for (const auto& vm : config_.vms) {
    auto* unit = find(vm.name);
    if (!vm.autostart || unit->busy()) continue;
    const auto started = co_await on(*unit, unit->start());
    if (!started)
      events_.add(vm.name, "refused", "it did not start: " + started.error().message, {});
  }
}

Task<Result<hypervisor::QemuProbe>> Daemon::probe_qemu() {
  // A probe boots a guest; its result is kept as long as binary and settings stay the same.
  const auto cache = config_.state_dir / "qemu-probe.json";
  const auto key = accelerator_key(config_.qemu);
  if (const auto text = read_file(cache)) {
    const auto json = nlohmann::json::parse(*text, nullptr, false);
    if (json.is_object() && json.value("key", "") == key) {
      try {
        hypervisor::QemuProbe probe;
        probe.version = {json.at("major"), json.at("minor"), json.at("micro"), json.at("package")};
        probe.accelerator = json.at("kvm").get<bool>() ? hypervisor::Accelerator::kvm
                                                       : hypervisor::Accelerator::tcg;
        probe.shim = json.at("shim");
        probe.accelerator_reason = json.at("reason");
        co_return probe;
      } catch (const nlohmann::json::exception&) {
        spdlog::info("{} is not what this version writes; QEMU is examined again", cache.string());
      }
    }
  }
  const auto probe = co_await hypervisor::probe(config_.qemu);
  if (!probe) co_return probe.error();
  const nlohmann::json json{{"key", key},
                            {"major", probe->version.major},
                            {"minor", probe->version.minor},
                            {"micro", probe->version.micro},
                            {"package", probe->version.package},
                            {"kvm", probe->accelerator == hypervisor::Accelerator::kvm},
                            {"shim", probe->shim},
                            {"reason", probe->accelerator_reason}};
  const auto saved = replace_file(cache, json.dump(2), false);
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
    std::erase_if(arrivals_,
                  [](const auto& entry) { return entry.second.deadline < steady_clock::now(); });
    timer.expires_after(life_sign_interval);
    co_await timer.async_wait(use_tuple);
  }
}

Task<void> Daemon::shut_down() {
  using namespace asio::experimental::awaitable_operators;
  spdlog::info("stopping; protected VMs go on unprotected");
  acceptor_.close();
  asio::steady_timer deadline(context_, shut_down_limit);
  for (auto& [name, unit] : units_) {
    co_await (on(*unit, unit->release()) || deadline.async_wait(use_tuple));
  }
  stopping_ = true;
  api_->close();
  context_.stop();
}

// ---- peers

Task<void> Daemon::accept_peers() {
  for (;;) {
    auto [ec, socket] = co_await acceptor_.async_accept(use_tuple);
    if (!acceptor_.is_open()) co_return;
    if (ec || greeting_ >= greeting_max) continue;
    start_coroutine(context_.get_executor(), greet(std::move(socket)));
  }
}

Task<void> Daemon::greet(tcp::socket socket) {
  using namespace asio::experimental::awaitable_operators;
  ++greeting_;
  asio::steady_timer deadline(context_, hello_limit);
  std::array<std::byte, wire::hello_header_size> bytes;
  auto header_buffer = asio::buffer(bytes);
  std::string text;
  Result<void> result;
  auto kind = wire::LaneKind::bulk;
  auto read = co_await (asio::async_read(socket, header_buffer, use_tuple) ||
                        deadline.async_wait(use_tuple));
  if (read.index() == 1 || std::get<0>(std::get<0>(read))) {
    --greeting_;
    co_return;  // nobody to answer to
  }
  const auto header = wire::decode_hello(bytes);
  if (!header) {
    result = header.error();
  } else {
    kind = header->kind;
    text.resize(header->text_length);
    auto text_buffer = asio::buffer(text);
    auto rest = co_await (asio::async_read(socket, text_buffer, use_tuple) ||
                          deadline.async_wait(use_tuple));
    if (rest.index() == 1 || std::get<0>(std::get<0>(rest))) {
      --greeting_;
      co_return;
    }
  }
  --greeting_;

  std::string vm, peer, session;
  std::string accepted_text;
  bool only_asks = false;
  if (result) {
    const auto hello = nlohmann::json::parse(text, nullptr, false);
    only_asks = hello.is_object() && hello.contains("probe") && hello["probe"] == true &&
                kind == wire::LaneKind::control;
    if (only_asks) accepted_text = introduction(host_);
    const auto field = [&](const char* key) {
      return hello.is_object() && hello.contains(key) && hello[key].is_string()
                 ? hello[key].get<std::string>()
                 : std::string();
    };
    vm = field("vm");
    peer = field("host");
    session = field("session");
    const auto* unit = find(vm);
    if (only_asks) {
      // It is told who is here, and no pair begins.
    } else if (!is_valid_name(vm) || !is_valid_name(peer) || session.size() != 32) {
      result = Error{Errc::protocol, "a hello without vm, host and session"};
    } else if (peer == config_.host) {
      result = Error{Errc::refused,
                     "this host is called " + peer + " too: give every host its own name"};
    } else if (unit != nullptr && unit->busy()) {
      result = Error{Errc::conflict,
                     "VM " + vm + " runs or is protected on " + config_.host + " already"};
    } else if (!arrivals_.contains(session) && arrivals_.size() >= arrivals_max) {
      result = Error{Errc::limit, "too many pairs are being set up at once"};
    } else if (arrivals_[session].sockets.contains(kind)) {
      result = Error{Errc::protocol, "a second " + std::string(to_string(kind)) + " lane"};
    }
  }
  if (!result) events_.add(vm, "refused", "connection from a peer: " + result.error().message, {});
  const auto answer =
      result ? wire::encode_hello_answer(wire::HelloStatus::accepted, accepted_text)
             : wire::encode_hello_answer(wire::HelloStatus::refused, result.error().message);
  const auto answer_buffer = asio::buffer(answer);
  auto written = co_await (asio::async_write(socket, answer_buffer, use_tuple) ||
                           deadline.async_wait(use_tuple));
  if (only_asks || !result || written.index() == 1 || std::get<0>(std::get<0>(written))) co_return;

  auto& arrival = arrivals_[session];
  arrival.vm = vm;
  arrival.peer = peer;
  arrival.deadline = steady_clock::now() + lanes_limit;
  arrival.sockets.emplace(kind, std::move(socket));
  if (arrival.sockets.size() < 3) co_return;
  auto complete = std::move(arrivals_.extract(session).mapped());
  hypervisor::VmDefinition definition;
  definition.name = complete.vm;
  auto& unit = make_unit(std::move(definition));
  const auto lane = [&](wire::LaneKind k) {
    return transport::make_tcp_lane(
        transport::move_to(std::move(complete.sockets.at(k)), unit.executor()));
  };
  const auto address = transport::local_address(complete.sockets.at(wire::LaneKind::control));
  session::Lanes lanes{lane(wire::LaneKind::bulk), lane(wire::LaneKind::packet),
                       lane(wire::LaneKind::control), address};
  start_coroutine(unit.executor(), unit.serve_secondary(std::move(lanes), complete.peer));
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
  auto* unit = find(name);
  if (unit == nullptr) {
    co_return Error{Errc::not_found, "there is no VM \"" + name + "\" on " + config_.host};
  }
  if (request.method == "GET" && action.empty())
    co_return answer(co_await on(*unit, unit->status()));
  if (request.method != "POST") {
    co_return Error{Errc::not_found,
                    request.method + " " + request.path + " is not part of the API"};
  }
  Result<void> done;
  if (action == "protect") {
    for (const auto& [key, value] : request.body.items()) {
      if ((key != "peer" && key != "policy") || !value.is_string()) {
        co_return Error{Errc::invalid_input, "protect: \"" + key + "\" is unknown or not a string"};
      }
    }
    if (!request.body.contains("peer"))
      co_return Error{Errc::invalid_input, "protect: \"peer\" is missing"};
    if (request.body.value("policy", "periodic") != "periodic") {
      co_return Error{Errc::invalid_input, "protect: the only policy is \"periodic\""};
    }
    const std::string peer = request.body["peer"];
    done = co_await on(*unit, unit->protect(peer));
  } else if (action == "unprotect") {
    done = co_await on(*unit, unit->unprotect());
  } else if (action == "failover") {
    done = co_await on(*unit, unit->failover());
  } else if (action == "start") {
    done = co_await on(*unit, unit->start());
  } else if (action == "stop") {
    done = co_await on(*unit, unit->stop());
  } else {
    co_return Error{Errc::not_found, "there is no action \"" + action + "\" for a VM"};
  }
  if (!done) co_return done.error();
  co_return answer(co_await on(*unit, unit->status()));
}

Task<Result<nlohmann::json>> Daemon::status() {
  nlohmann::json vms = nlohmann::json::array();
  std::vector<VmUnit*> all;
  for (const auto& [name, unit] : units_) all.push_back(unit.get());
  for (auto* unit : all) vms.push_back(co_await on(*unit, unit->status()));
  const auto probe = host_.qemu.load();
  nlohmann::json json{{"host", config_.host},
                      {"version", TANDEM_VERSION},
                      {"guardian_pid", life_sign_fd_ >= 0 ? ::getppid() : 0},
                      {"worker_pid", ::getpid()},
                      {"qemu", probe && *probe ? to_json(**probe) : nlohmann::json()},
                      {"vms", std::move(vms)}};
  co_return answer(std::move(json));
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
