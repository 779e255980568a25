#include "experiments/demo/round.hpp"

#include <algorithm>
#include <future>
#include <iomanip>
#include <sstream>

#include "experiments/demo/event_follower.hpp"
#include "experiments/demo/failover_times.hpp"
#include "experiments/demo/host_view.hpp"
#include "experiments/demo/redis_client.hpp"
#include "experiments/world/frame_witness.hpp"
#include "experiments/world/world.hpp"

namespace tandem::demo {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr const char* kVm = "demo";
constexpr const char* kVmPath = "/v1/vms/demo";
constexpr const char* kMac = "52:54:00:12:34:56";
constexpr const char* kGuestAddress = "10.88.0.10";

constexpr seconds kStartTimeout{60};
constexpr seconds kBootTimeout{180};
constexpr seconds kProtectTimeout{120};
constexpr seconds kFailoverTimeout{20};
constexpr seconds kGoOn{3};
constexpr seconds kSettleTimeout{5};
constexpr milliseconds kTick{50};
constexpr milliseconds kPollInterval{250};

std::string fixed(double value, int decimals) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(decimals) << value;
  return text.str();
}

std::string milliseconds_text(std::optional<double> value) {
  return value ? fixed(*value, *value < 10 ? 1 : 0) + " ms" : "?";
}

class Round {
 public:
  Round(const RoundOptions& options, const RoundPlan& plan, Display& display, Interrupt& interrupt,
        world::World& world)
      : options_(options), plan_(plan), display_(display), interrupt_(interrupt), world_(world) {}

  Result<RoundOutcome> play() {
    if (auto done = start_daemons(); !done) return done.error();
    if (auto done = start_vm(); !done) return done.error();
    if (auto done = protect(); !done) return done.error();
    if (auto done = run_until_the_kill(); !done) return done.error();
    if (auto done = strike(); !done) return done.error();
    if (auto done = watch_the_failover(); !done) return done.error();
    if (auto done = settle_accounts(); !done) return done.error();
    outcome_.result.seed = plan_.seed;
    outcome_.result.kind = plan_.kind;
    return outcome_;
  }

 private:
  Result<void> start_daemons() {
    display_.step(
        "Start tandemd on both hosts: it runs QEMU and will carry the VM's state across.");
    auto daemon = options_.daemon;
    hypervisor::VmDefinition vm;
    vm.name = kVm;
    vm.memory_mib = 256;
    vm.kernel = options_.kernel;
    vm.initrd = options_.initrd;
    vm.cmdline = options_.kernel_arguments + " tandem.ip=" + kGuestAddress + "/24";
    // Without it the guest waits for randomness when it boots.
    vm.extra_args = {"-device", "virtio-rng-pci"};
    vm.nics.push_back({"n0", kMac, "tnd0", world::Host::kBridge});
    daemon.vms = {vm};
    if (auto started = world_.alpha().start_daemon(daemon); !started) return started;
    // The secondary's host needs no definition: it gets the VM from the primary's.
    daemon.vms.clear();
    if (auto started = world_.beta().start_daemon(daemon); !started) return started;

    const auto mac = world::parse_mac(kMac);
    auto witness = world::FrameWitness::start(
        world_.lan(), {world::World::kAlphaPort, world::World::kBetaPort}, *mac);
    if (!witness) return witness.error();
    witness_ = std::move(*witness);
    events_.follow("alpha", world_.alpha().api());
    events_.follow("beta", world_.beta().api());
    return {};
  }

  Result<void> start_vm() {
    display_.step("Boot a VM with redis on alpha; its address is " + std::string(kGuestAddress) +
                  ".");
    const auto begin = Clock::now();
    auto start =
        call(world_.alpha(), "/start", nlohmann::json::object(), kStartTimeout, "starting");
    if (!start) return start.error();
    if (auto known = learn_about_qemu(); !known) return known.error();

    ClientOptions client;
    client.address = kGuestAddress;
    client.writes_per_second = options_.writes_per_second;
    client.net = &world_.lan();
    client_ = std::make_unique<RedisClient>(client);
    auto connected = client_->connect(kBootTimeout);
    const bool ready = await(connected, [&] {
      display_.status("waiting for redis in the guest, " +
                      fixed(std::chrono::duration<double>(Clock::now() - begin).count(), 0) + " s");
    });
    if (!ready) return interrupted();
    if (const auto got = connected.get(); !got) {
      const auto serial = world_.alpha().place().run_dir / kVm / "serial.log";
      return Error{got.error().code,
                   got.error().message + "; the guest's last words:" + world::file_tail(serial, 8)};
    }
    display_.good("The client's one TCP connection to redis stands.");
    client_->start_writing();
    display_.step("The client writes numbered keys, " + fixed(options_.writes_per_second, 0) +
                  " a second, and remembers each one that redis acknowledges.");
    return {};
  }

  // QEMU has been asked for its version by the time a VM runs.
  Result<void> learn_about_qemu() {
    const auto status = world_.alpha().api().get("/v1/status", seconds(5));
    if (!status) return status.error();
    auto& qemu = outcome_.qemu;
    qemu.version = text_at(*status, "/qemu/version");
    qemu.accel = text_at(*status, "/qemu/accel");
    qemu.shim = flag_at(*status, "/qemu/shim");
    display_.step("QEMU " + qemu.version + " runs it with the accelerator " + qemu.accel +
                  (qemu.shim ? ", mended by a preloaded library" : "") + ".");
    display_.detail(text_at(*status, "/qemu/accel_reason"));
    return {};
  }

  Result<void> protect() {
    display_.step("tandem protect demo --to beta: copy the running VM, then send checkpoints.");
    const nlohmann::json body{{"peer", "beta"}, {"policy", options_.policy}};
    auto answer = call(world_.alpha(), "/protect", body, kProtectTimeout, "copying the VM to beta");
    if (!answer) return answer.error();
    protected_at_ = Clock::now();
    const HostView view = look_at(world_.alpha(), kVm);
    if (view.state() != "protected")
      return Error{Errc::conflict, "protect succeeded, but alpha reports the state \"" +
                                       view.state() + "\" instead of \"protected\""};
    display_.good(
        "Protected: what the VM sends leaves alpha only when beta holds the state behind it.");
    return {};
  }

  Result<void> run_until_the_kill() {
    const auto due = protected_at_ + plan_.delay;
    // The last look is early enough to leave the kill its exact instant.
    const auto last_look = due - milliseconds(100);
    while (Clock::now() < last_look) {
      alpha_before_ = look_at(world_.alpha(), kVm);
      beta_before_ = look_at(world_.beta(), kVm);
      tick();
      if (interrupt_.wait_until(std::min(last_look, Clock::now() + kPollInterval)))
        return interrupted();
    }
    auto target = take_aim(world_.alpha(), world_.beta(), kVm);
    if (!target) return target.error();
    target_ = *target;
    if (interrupt_.wait_until(due)) return interrupted();
    return {};
  }

  Result<void> strike() {
    witness_->mark();
    killed_at_ = Clock::now();
    const auto wall = std::chrono::system_clock::now().time_since_epoch();
    killed_wall_ = std::chrono::duration<double>(wall).count();
    const auto struck = demo::strike(target_, plan_.kind, plan_.hang);
    if (!struck) return struck.error();
    const double after = std::chrono::duration<double>(killed_at_ - protected_at_).count();
    display_.bad("KILL, " + fixed(after, 3) + " s after protection: " + *struck + ".");
    return {};
  }

  // The client goes on for kGoOn after the first answer since the survivor ran.
  Result<void> watch_the_failover() {
    const auto give_up = killed_at_ + kFailoverTimeout;
    std::optional<Time> answered_at;
    while (Clock::now() < give_up) {
      if (interrupt_.wait_for(kTick)) return interrupted();
      tick();
      if (!answered_at) {
        const auto running = running_since();
        const auto last = client_->progress().last_answer;
        if (running && last && *last >= *running) answered_at = Clock::now();
      }
      if (answered_at && Clock::now() >= *answered_at + kGoOn) return {};
    }
    display_.detail("nobody reported a takeover and an answer within " +
                    std::to_string(kFailoverTimeout.count()) + " s");
    return {};
  }

  // When, on this process's clock, a survivor has said that it runs.
  std::optional<Time> running_since() const {
    const auto events = events_.all();
    for (const char* host : {"alpha", "beta"}) {
      const auto times = failover_times(events, host, killed_wall_, nlohmann::json());
      if (times.running_at) return steady(*times.running_at);
    }
    return std::nullopt;
  }

  Time steady(double wall) const {
    return killed_at_ + std::chrono::duration_cast<Clock::duration>(
                            std::chrono::duration<double>(wall - killed_wall_));
  }

  Result<void> settle_accounts() {
    auto& result = outcome_.result;
    auto problems = inspect();
    const auto deadline = Clock::now() + kSettleTimeout;
    while (!problems.empty() && Clock::now() < deadline) {
      if (interrupt_.wait_for(kTick)) return interrupted();
      tick();
      problems = inspect();
    }
    display_.step("The client asks for every acknowledged write back.");
    FinishLimits limits;
    // Where nobody serves, waiting long for answers only keeps the reader waiting.
    if (result.survivor.empty()) limits = {milliseconds(1000), milliseconds(5000)};
    auto finished = client_->finish(limits);
    if (!await(finished, [&] { tick(); })) return interrupted();
    const auto report = finished.get();
    const auto client_problems = judge(report);
    problems.insert(problems.end(), client_problems.begin(), client_problems.end());
    witness_problems(problems);
    result.failures = std::move(problems);
    measure(report);
    tell(report);
    return {};
  }

  // What is wrong with the state of the hosts; sets the survivor.
  std::vector<std::string> inspect() {
    std::vector<std::string> problems;
    auto& survivor = outcome_.result.survivor;
    survivor.clear();
    const HostView alpha = look_at(world_.alpha(), kVm);
    const HostView beta = look_at(world_.beta(), kVm);
    if (alpha.serves() && beta.serves()) {
      problems.push_back("both hosts say that they run the VM");
      return problems;
    }
    if (!alpha.serves() && !beta.serves()) {
      problems.push_back("no host says that it runs the VM: alpha reports " + alpha.describe() +
                         ", beta " + beta.describe());
      return problems;
    }
    survivor = alpha.serves() ? "alpha" : "beta";
    survivor_view_ = alpha.serves() ? alpha : beta;
    world::Host& own = world_.host(survivor);
    world::Host& other = world_.other(own);
    const HostView& other_view = alpha.serves() ? beta : alpha;
    const char* expected = plan_.kind == KillKind::secondary_host ? "alpha" : "beta";
    if (plan_.kind != KillKind::primary_daemon && survivor != expected)
      problems.push_back("the VM runs on " + survivor + ", not on " + expected);
    if (own.qemu_processes().empty())
      problems.push_back(survivor + " says that it runs the VM, but it has no QEMU process");
    if (!other.qemu_processes().empty() && !(other_view.answers && other_view.stands_still()))
      problems.push_back("a second QEMU is left on " + other.name() + ", which reports " +
                         other_view.describe());
    return problems;
  }

  // What the cables saw: once the survivor has sent, the other one must be silent for ever.
  void witness_problems(std::vector<std::string>& problems) const {
    const auto seen = witness_->sightings();
    const bool alpha = outcome_.result.survivor == "alpha";
    if (outcome_.result.survivor.empty()) return;
    display_.detail("frames of the VM since the kill: " + std::to_string(seen[0].frames) +
                    " from alpha, " + std::to_string(seen[1].frames) + " from beta");
    for (auto& problem :
         demo::witness_problems(seen[alpha ? 0 : 1], alpha ? "alpha" : "beta", seen[alpha ? 1 : 0],
                                alpha ? "beta" : "alpha", alpha))
      problems.push_back(std::move(problem));
  }

  static std::vector<std::string> judge(const ClientReport& report) {
    std::vector<std::string> problems;
    if (!report.connection_survived)
      problems.push_back("the TCP connection did not survive: " + report.connection_problem);
    if (report.lost > 0) {
      std::string text = std::to_string(report.lost) + " of " +
                         std::to_string(report.acknowledged) + " acknowledged writes were lost";
      if (!report.lost_examples.empty())
        text += ", the first is " + WriteLedger::key_of(report.lost_examples.front());
      if (!report.read_back_problem.empty())
        text += " (they could not be read back: " + report.read_back_problem + ")";
      problems.push_back(text);
    }
    if (report.acknowledged == 0) problems.push_back("not one write was acknowledged");
    return problems;
  }

  // From when on an answer comes from the survivor: what a new host sends the cables show to the
  // microsecond, while its daemon learns a little later that the VM runs.
  std::optional<Time> failed_over_at(const FailoverTimes& times) const {
    if (outcome_.result.survivor == "beta") return witness_->sightings()[1].first;
    if (times.running_at) return steady(*times.running_at);
    return std::nullopt;
  }

  void measure(const ClientReport& report) {
    auto& result = outcome_.result;
    const auto ms = [](auto duration) {
      return std::chrono::duration<double, std::milli>(duration).count();
    };
    result.connection_survived = report.connection_survived;
    result.acked_writes = report.acknowledged;
    result.lost_acked_writes = report.lost;
    result.client_outage_ms = ms(longest_silence(report.answers, killed_at_, report.waiting_until));
    if (!result.survivor.empty()) {
      const auto times =
          failover_times(events_.all(), result.survivor, killed_wall_, survivor_view_.vm);
      result.failover_ms = times.failover_ms;
      result.split = times.split;
      if (const auto since = failed_over_at(times)) {
        if (const auto first = first_answer(report.answers, *since))
          result.split.first_reply_ms = ms(*first - killed_at_);
      }
    }
    const auto& primary = alpha_before_.vm;
    result.checkpoints = count_at(primary, "/checkpoints/committed");
    result.pause_mean_ms = number_at(primary, "/pause_ms/mean");
    result.pause_p50_ms = number_at(primary, "/pause_ms/p50");
    result.pause_p99_ms = number_at(primary, "/pause_ms/p99");
    result.dirty_bytes = count_at(primary, "/dirty_bytes");
    result.wire_bytes = count_at(primary, "/wire_bytes");
    result.svm_stopped_ratio = number_at(beta_before_.vm, "/stopped_ratio");
  }

  void tell(const ClientReport& report) {
    const auto& result = outcome_.result;
    const auto& split = result.split;
    std::string steps;
    const auto add = [&](const char* name, std::optional<double> value) {
      if (value)
        steps += std::string(steps.empty() ? "" : ", ") + name + " " + milliseconds_text(value);
    };
    add("noticed after", split.detection_ms);
    add("decided in", split.decision_ms);
    add("loaded in", split.load_ms);
    add("running in", split.running_ms);
    if (!result.survivor.empty())
      display_.step("The VM goes on on " + result.survivor + ", " +
                    milliseconds_text(result.failover_ms) + " after the kill" +
                    (steps.empty() ? "" : " (" + steps + ")") + ".");
    display_.step("The client's longest wait for an answer was " +
                  milliseconds_text(result.client_outage_ms) + ".");
    if (result.passed()) {
      display_.good("The same TCP connection, " + std::to_string(report.acknowledged) +
                    " writes acknowledged, none lost.");
    } else {
      display_.bad("The promise was not kept in this round.");
    }
  }

  void show_events() {
    for (const auto& event : events_.take_new())
      display_.event(event.host, event.message.empty() ? event.type : event.message);
  }

  // Shows new events and the state right now.
  void tick() {
    show_events();
    const auto progress = client_ ? client_->progress() : ClientProgress{};
    std::string text = std::to_string(progress.acknowledged) + " writes acknowledged";
    if (const auto committed = count_at(alpha_before_.vm, "/checkpoints/committed"))
      text += " | checkpoint " + std::to_string(*committed);
    if (const auto mean = number_at(alpha_before_.vm, "/pause_ms/mean"))
      text += " | pause " + fixed(*mean, 1) + " ms";
    if (const auto p99 = number_at(alpha_before_.vm, "/pause_ms/p99"))
      text += " (p99 " + fixed(*p99, 1) + ")";
    if (progress.last_answer) {
      const double silent =
          std::chrono::duration<double, std::milli>(Clock::now() - *progress.last_answer).count();
      if (silent > 500) text += " | no answer for " + fixed(silent, 0) + " ms";
    }
    if (!progress.problem.empty()) text += " | connection lost: " + progress.problem;
    display_.status(text);
  }

  // Waits until a future is ready while the display goes on; false if the user interrupts.
  template <class T, class F>
  bool await(std::future<T>& future, F&& show) {
    while (future.wait_for(kTick) != std::future_status::ready) {
      if (interrupt_.raised()) return false;
      show_events();
      show();
    }
    show_events();
    return true;
  }

  // POSTs to the VM's resource on a host, with the display alive.
  Result<void> call(world::Host& host, const std::string& action, const nlohmann::json& body,
                    milliseconds timeout, const std::string& doing) {
    auto future = std::async(std::launch::async, [api = host.api(), action, body, timeout] {
      return api.post(kVmPath + action, body, timeout);
    });
    const auto begin = Clock::now();
    const bool ready = await(future, [&] {
      display_.status(doing + ", " +
                      fixed(std::chrono::duration<double>(Clock::now() - begin).count(), 1) + " s");
    });
    if (!ready) {
      // The call ends with the daemon that it waits for.
      [[maybe_unused]] const auto ended = host.kill_everything();
      return interrupted();
    }
    if (const auto answer = future.get(); !answer) return with_context(doing, answer.error());
    return {};
  }

  static Error interrupted() { return {Errc::closed, "interrupted"}; }

  const RoundOptions& options_;
  const RoundPlan& plan_;
  Display& display_;
  Interrupt& interrupt_;
  world::World& world_;
  std::unique_ptr<world::FrameWitness> witness_;
  EventFollower events_;
  std::unique_ptr<RedisClient> client_;
  RoundOutcome outcome_;
  HostView alpha_before_, beta_before_, survivor_view_;
  Target target_;
  Time protected_at_, killed_at_;
  double killed_wall_ = 0;
};

}  // namespace

Result<RoundOutcome> run_round(const RoundOptions& options, const RoundPlan& plan, Display& display,
                               Interrupt& interrupt) {
  display.step(
      options.cabling == world::Cabling::direct
          ? "Build a little world: hosts alpha and beta, a cable between them, a client's switch."
          : "Build a little world: hosts alpha and beta, a switch between them, a client's "
            "switch.");
  world::WorldOptions world_options;
  world_options.keep = options.keep;
  world_options.cabling = options.cabling;
  auto world = world::World::make(world_options);
  if (!world) return world.error();
  display.detail("its files are in " + world->directory().string());

  Round round(options, plan, display, interrupt, *world);
  auto outcome = round.play();
  const bool was_interrupted = !outcome && interrupt.raised();
  if ((!outcome && !was_interrupted) || (outcome && !outcome->result.passed())) world->keep();
  if (!outcome) {
    Error error = outcome.error();
    if (!was_interrupted) error.message += "\nAll logs are in " + world->directory().string() + ".";
    return error;
  }
  if (options.keep || !outcome->result.passed()) outcome->kept = world->directory();
  return outcome;
}

}  // namespace tandem::demo
