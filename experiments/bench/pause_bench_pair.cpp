#include "experiments/bench/pause_bench_pair.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

#include "base/file.hpp"
#include "experiments/bench/pause_bench_cpu.hpp"
#include "experiments/bench/pause_bench_stream.hpp"

namespace tandem::bench {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Clock = std::chrono::steady_clock;

constexpr std::uint32_t kGuestMemoryMib = 256;
constexpr std::uint16_t kDirtyPort = 7000;
constexpr seconds kStartTimeout{60};
constexpr seconds kBootTimeout{180};
constexpr seconds kProtectTimeout{120};
constexpr seconds kResizeTimeout{30};
constexpr milliseconds kResizePatience{3000};
constexpr seconds kLastResumeTimeout{10};
constexpr milliseconds kTick{50};
constexpr std::size_t kLogMax = 64u << 20;

struct Names {
  const char* title;
  const char* vm;
  const char* mac;
  const char* address;
  const char* tap;
};

// Taps of both hosts are made in different namespaces, but a name for each keeps the logs readable.
constexpr std::array<Names, 3> kNames{{
    {"stock (TCP)", "stock-tcp", "52:54:00:12:34:61", "10.88.0.11", "stt"},
    {"stock (unix)", "stock-unix", "52:54:00:12:34:62", "10.88.0.12", "stu"},
    {"tandem", "tandem", "52:54:00:12:34:63", "10.88.0.13", "tnd"},
}};

const Names& names(Pair::Kind kind) {
  return kNames.at(static_cast<std::size_t>(kind));
}

Result<sockaddr_in> ipv4(const std::string& address, std::uint16_t port) {
  sockaddr_in in{};
  in.sin_family = AF_INET;
  in.sin_port = htons(port);
  if (::inet_pton(AF_INET, address.c_str(), &in.sin_addr) != 1)
    return Error{Errc::invalid_input, address + " is not an IPv4 address"};
  return in;
}

}  // namespace

Error interrupted() {
  return {Errc::closed, "interrupted"};
}

Pair::Pair(const Bench& bench, Kind kind) : bench_(bench), kind_(kind) {}

const char* Pair::name() const noexcept {
  return names(kind_).title;
}

Result<std::unique_ptr<Pair>> Pair::boot(const Bench& bench, Kind kind) {
  std::unique_ptr<Pair> pair(new Pair(bench, kind));
  const auto context = [&](const Error& error) { return with_context(pair->name(), error); };
  auto alpha = NamespaceThread::start(bench.world.alpha().net());
  if (!alpha) return context(alpha.error());
  pair->alpha_ = std::move(*alpha);
  auto beta = NamespaceThread::start(bench.world.beta().net());
  if (!beta) return context(beta.error());
  pair->beta_ = std::move(*beta);
  auto booted = kind == Kind::tandem ? pair->boot_tandem() : pair->boot_stock();
  if (!booted) return context(booted.error());
  auto monitor = Monitor::connect(*pair->alpha_, names(kind).vm);
  if (!monitor) return context(monitor.error());
  pair->primary_.emplace(std::move(*monitor));
  return pair;
}

Result<hypervisor::VmDefinition> Pair::definition(const std::string& tap) const {
  const auto& own = names(kind_);
  hypervisor::VmDefinition vm;
  vm.name = own.vm;
  vm.memory_mib = kGuestMemoryMib;
  vm.kernel = bench_.kernel;
  vm.initrd = bench_.initrd;
  vm.cmdline = bench_.kernel_arguments + " tandem.ip=" + own.address +
               "/24 tandem.dirty_rate=" + std::to_string(kPassesPerSecond);
  vm.nics.push_back({"n0", own.mac, tap, world::Host::kBridge});
  vm.extra_args = Monitor::qemu_arguments(own.vm);
  if (auto valid = hypervisor::validate(vm); !valid) return valid.error();
  return vm;
}

Result<void> Pair::boot_stock() {
  hypervisor::QemuConfig config;
  config.binary = bench_.daemon.qemu;
  config.arguments = bench_.daemon.qemu_arguments;
  config.environment = bench_.daemon.qemu_environment;
  config.accel = bench_.daemon.accel;
  config.tcg_shim = bench_.daemon.tcg_shim;
  auto probed = alpha_->run(hypervisor::probe(config));
  if (!probed) return probed.error();
  probe_ = std::move(*probed);
  alpha_driver_.emplace(config, probe_, bench_.world.alpha().directory() / "stock");
  beta_driver_.emplace(config, probe_, bench_.world.beta().directory() / "stock");

  const std::string tap = std::string(names(kind_).tap) + "0";
  const auto vm = definition(tap);
  if (!vm) return vm.error();
  auto started = alpha_->run(alpha_driver_->start(*vm, hypervisor::StartMode::run));
  if (!started) return started.error();
  primary_process_.emplace(std::move(*started));
  primary_log_ = primary_process_->log;
  return bench_.world.alpha().net().join_bridge(tap, world::Host::kBridge);
}

Result<void> Pair::boot_tandem() {
  const auto vm = definition(std::string(names(kind_).tap) + "0");
  if (!vm) return vm.error();
  auto daemon = bench_.daemon;
  daemon.checkpoint_period = bench_.period;
  daemon.vms = {*vm};
  auto& alpha = bench_.world.alpha();
  if (auto started = alpha.start_daemon(daemon); !started) return started;
  // The secondary's host needs no definition: it gets the VM from the primary's.
  daemon.vms.clear();
  if (auto started = bench_.world.beta().start_daemon(daemon); !started) return started;
  const auto path = std::string("/v1/vms/") + names(kind_).vm + "/start";
  const auto answer = alpha.api().post(path, nlohmann::json::object(), kStartTimeout);
  if (!answer) return answer.error();
  primary_log_ = alpha.place().run_dir / names(kind_).vm / "qemu.log";
  return {};
}

Result<bool> Pair::tell_guest(long mib, milliseconds patience) const {
  auto socket = bench_.world.lan().open_socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (!socket) return socket.error();
  const auto address = ipv4(names(kind_).address, kDirtyPort);
  if (!address) return address.error();
  if (::connect(socket->get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) != 0)
    return system_error("cannot reach the guest", errno);
  const auto question = std::to_string(mib);
  if (::send(socket->get(), question.data(), question.size(), 0) < 0) return false;
  pollfd readable{socket->get(), POLLIN, 0};
  if (::poll(&readable, 1, static_cast<int>(patience.count())) != 1) return false;
  std::array<char, 128> answer{};
  const auto length = ::recv(socket->get(), answer.data(), answer.size(), MSG_DONTWAIT);
  // A guest without its service yet answers with an ICMP error, which comes here as a failure.
  if (length <= 0) return false;
  const std::string_view text(answer.data(), static_cast<std::size_t>(length));
  if (text != "ok " + question)
    return Error{Errc::refused,
                 "the guest does not write " + question + " MiB: " + std::string(text)};
  return true;
}

Result<void> Pair::set_size(long mib, milliseconds timeout) const {
  const auto deadline = Clock::now() + timeout;
  for (;;) {
    const auto told = tell_guest(mib, kResizePatience);
    if (!told) return told.error();
    if (*told) return {};
    if (bench_.interrupt.wait_for(kTick)) return interrupted();
    if (Clock::now() >= deadline)
      return Error{Errc::timed_out,
                   std::string("the guest of ") + name() + " at " + names(kind_).address +
                       " does not answer; QEMU's last words:" + world::file_tail(primary_log_, 5)};
  }
}

Result<void> Pair::wait_until_booted() {
  auto ready = set_size(0, kBootTimeout);
  return ready ? ready : with_context(name(), ready.error());
}

Result<void> Pair::protect() {
  auto done = kind_ == Kind::tandem ? protect_tandem() : protect_stock();
  if (!done) return with_context(name(), done.error());
  auto monitor = Monitor::connect(*beta_, names(kind_).vm);
  if (!monitor) return with_context(name(), monitor.error());
  secondary_.emplace(std::move(*monitor));
  return primary_->checkpoint_rarely();
}

Result<void> Pair::protect_stock() {
  const auto vm = definition(std::string(names(kind_).tap) + "1");
  if (!vm) return vm.error();
  auto started = beta_->run(beta_driver_->start(*vm, hypervisor::StartMode::incoming));
  if (!started) return started.error();
  secondary_process_.emplace(std::move(*started));
  // Its tap stays off the bridge: the secondary's output must not reach anybody.
  const auto& peer = bench_.world.beta().place().listen;
  auto ends = kind_ == Kind::stock_tcp
                  ? connect_over_tcp(bench_.world.alpha().net(), bench_.world.beta().net(),
                                     peer.substr(0, peer.find(':')))
                  : connect_locally();
  if (!ends) return ends.error();
  const auto capabilities = hypervisor::colo_capabilities(probe_.version);
  {
    auto incoming = Monitor::connect(*beta_, names(kind_).vm);
    if (!incoming) return incoming.error();
    auto done = incoming->migrate_incoming(ends->secondary.get(), capabilities);
    if (!done) return done;
  }
  auto done = primary_->migrate(ends->primary.get(), capabilities);
  if (!done) return done;
  if (kind_ == Kind::stock_tcp) stream_ = std::move(ends->primary);
  return primary_->wait_for_colo(kProtectTimeout);
}

Result<void> Pair::protect_tandem() {
  const nlohmann::json body{{"peer", "beta"}, {"policy", "periodic"}};
  auto& alpha = bench_.world.alpha();
  const auto vm = std::string("/v1/vms/") + names(kind_).vm;
  const auto answer = alpha.api().post(vm + "/protect", body, kProtectTimeout);
  if (!answer) return answer.error();
  const auto status = alpha.api().get("/v1/status", seconds(5));
  if (!status) return status.error();
  return {};
}

Result<void> Pair::work(long mib, bool paced) {
  const auto pace = [&] {
    return paced ? primary_->checkpoint_after_running(bench_.period)
                 : primary_->checkpoint_every(bench_.period);
  };
  if (auto set = pace(); !set) return with_context(name(), set.error());
  auto sized = set_size(mib, kResizeTimeout);
  return sized ? sized : with_context(name(), sized.error());
}

Result<void> Pair::rest() {
  if (auto sized = set_size(0, kResizeTimeout); !sized) return with_context(name(), sized.error());
  auto set = primary_->checkpoint_rarely();
  return set ? set : with_context(name(), set.error());
}

Result<std::optional<std::uint64_t>> Pair::stream_bytes() const {
  if (kind_ == Kind::tandem) {
    const auto target = std::string("/v1/vms/") + names(kind_).vm;
    const auto vm = bench_.world.alpha().api().get(target, seconds(5));
    if (!vm) return vm.error();
    if (!vm->value("protected", false))
      return Error{Errc::conflict, "tandemd does not protect the VM any more: it is " +
                                       vm->value("state", std::string("unknown"))};
    return std::optional<std::uint64_t>(vm->value("wire_bytes", std::uint64_t{0}));
  }
  if (!stream_) return std::optional<std::uint64_t>();
  const auto bytes = acknowledged_bytes(stream_);
  if (!bytes) return bytes.error();
  return std::optional<std::uint64_t>(*bytes);
}

Result<Samples> Pair::observe(milliseconds time) {
  const auto failed = [&](const Error& error) { return with_context(name(), error); };
  const auto bytes_before = stream_bytes();
  if (!bytes_before) return failed(bytes_before.error());
  CpuMeter cpu;
  Window window;
  window.from = std::chrono::system_clock::now();
  const auto begin = Clock::now();
  std::vector<RunChange> changes;
  // Looks twice or three times: a look costs the machine something, too.
  for (auto until = begin + time;; until += time / 2) {
    if (bench_.interrupt.wait_until(until)) return interrupted();
    window.to = std::chrono::system_clock::now();
    auto seen = primary_->changes();
    if (!seen) return failed(seen.error());
    changes = std::move(*seen);
    if (pauses_ms(changes, window).size() >= kPausesMin || Clock::now() >= begin + 3 * time) break;
  }
  Samples samples;
  samples.seconds = std::chrono::duration<double>(window.to - window.from).count();
  samples.others_cpu_seconds = cpu.others_seconds();
  const auto bytes_after = stream_bytes();
  if (!bytes_after) return failed(bytes_after.error());
  if (*bytes_before && *bytes_after) samples.stream_bytes = **bytes_after - **bytes_before;

  // A pause that has begun in the window counts whole.
  const auto deadline = Clock::now() + kLastResumeTimeout;
  while (!changes.empty() && !changes.back().runs) {
    if (Clock::now() >= deadline)
      return failed({Errc::timed_out, "the VM is not resumed any more"});
    if (bench_.interrupt.wait_for(kTick)) return interrupted();
    auto seen = primary_->changes();
    if (!seen) return failed(seen.error());
    changes = std::move(*seen);
  }
  samples.pauses_ms = pauses_ms(changes, window);
  const auto secondary = secondary_->changes();
  if (!secondary) return failed(secondary.error());
  samples.svm_stopped_seconds = stopped_seconds(*secondary, window);
  const auto log = read_file(primary_log_, kLogMax);
  if (!log) return failed(log.error());
  samples.dirty_pages = dirty_pages(parse_bitmap_syncs(*log), window);
  return samples;
}

}  // namespace tandem::bench
