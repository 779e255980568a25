#include "experiments/survival/round.hpp"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <future>
#include <iomanip>
#include <sstream>

#include "experiments/demo/event_follower.hpp"
#include "experiments/demo/failover_times.hpp"
#include "experiments/demo/host_view.hpp"
#include "experiments/survival/client.hpp"
#include "experiments/world/frame_witness.hpp"
#include "experiments/world/world.hpp"

namespace tandem::survival {
namespace {

using Clock = std::chrono::steady_clock;
using demo::KillKind;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr const char* kVm = "demo";
constexpr const char* kVmPath = "/v1/vms/demo";
constexpr const char* kMac = "52:54:00:12:34:56";
constexpr const char* kGuestAddress = "10.88.0.10";
constexpr std::uint16_t kPeerdPort = 7100;

constexpr seconds kStartTimeout{60};
constexpr seconds kBootTimeout{180};
constexpr seconds kProtectTimeout{120};
constexpr seconds kReachTimeout{5};
constexpr seconds kAnswerTimeout{15};
constexpr seconds kCheckpointTimeout{20};
constexpr seconds kFailoverTimeout{20};
// After everybody has had an answer from the survivor.
constexpr milliseconds kGoOn{1500};
constexpr seconds kSettleTimeout{5};
constexpr seconds kFinishTimeout{20};
constexpr milliseconds kTick{20};
// The last look at the primary is early enough to leave the kill its exact instant.
constexpr milliseconds kAim{60};
// The first connections in handshake are begun before the kill.
constexpr milliseconds kHandshakeLead{20};

constexpr std::uint64_t kUploadStep = 64 * 1024;
constexpr std::uint64_t kDownloadWindow = 1024 * 1024;
constexpr milliseconds kRandomInterval{20};
constexpr int kEchoes = 3;

std::string fixed(double value, int decimals) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(decimals) << value;
  return text.str();
}

double in_ms(Clock::duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

Error interrupted() {
  return {Errc::closed, "interrupted"};
}

class Round {
 public:
  Round(const RoundOptions& options, const RoundPlan& plan, demo::Display& display,
        demo::Interrupt& interrupt, world::World& world)
      : options_(options),
        plan_(plan),
        display_(display),
        interrupt_(interrupt),
        world_(world),
        primary_(&world.alpha()),
        secondary_(&world.beta()) {
    result().seed = plan.seed;
  }

  Result<RoundOutcome> play() {
    auto outcome = play_to_its_end();
    if (!outcome || !outcome->result.passed()) save_views();
    return outcome;
  }

 private:
  RoundResult& result() { return outcome_.result; }

  // What the hosts say at last goes beside their logs.
  void save_views() {
    for (auto* host : {&world_.alpha(), &world_.beta()}) {
      const auto view = demo::look_at(*host, kVm);
      if (!view.answers) continue;
      std::ofstream file(host->directory() / "vm.json");
      file << view.vm.dump(2) << "\n";
    }
  }

  Result<RoundOutcome> play_to_its_end() {
    if (auto done = start_world(); !done) return done.error();
    if (auto done = boot(); !done) return done.error();
    for (std::size_t i = 0; i < plan_.blows.size(); ++i) {
      if (i > 0)
        if (auto done = revive(); !done) return done.error();
      if (auto done = protect(); !done) return done.error();
      if (auto done = open_before(i == 0); !done) return done.error();
      if (auto done = open_after(i == 0); !done) return done.error();
      if (auto done = strike(plan_.blows[i]); !done) return done.error();
      if (auto done = watch_the_failover(); !done) return done.error();
      if (survivor_ == nullptr) break;
    }
    if (auto done = settle_accounts(); !done) return done.error();
    return outcome_;
  }

  [[nodiscard]] bool wants(Kind kind) const {
    const auto& kinds = options_.setting.kinds;
    const bool listed = std::ranges::find(kinds, kind) != kinds.end();
    return listed && (plan_.streams || !is_stream(kind) || std::ranges::all_of(kinds, is_stream));
  }

  Result<void> start_world() {
    auto path_options = options_.setting.path;
    path_options.seed = plan_.seed;
    auto path = Path::build(world_, path_options);
    if (!path) return path.error();
    path_ = std::move(*path);
    daemon_ = options_.daemon;
    hypervisor::VmDefinition vm;
    vm.name = kVm;
    vm.memory_mib = 256;
    vm.kernel = options_.kernel;
    vm.initrd = options_.initrd;
    vm.cmdline = options_.kernel_arguments + " tandem.ip=" + kGuestAddress + "/24";
    // Without it the guest waits for randomness when it boots.
    vm.extra_args = {"-device", "virtio-rng-pci"};
    vm.nics.push_back({"n0", kMac, "tnd0", world::Host::kBridge});
    daemon_.vms = {vm};
    if (auto started = world_.alpha().start_daemon(daemon_); !started) return started;
    // The secondary's host needs no definition: it gets the VM from the primary's.
    auto without = daemon_;
    without.vms.clear();
    if (auto started = world_.beta().start_daemon(without); !started) return started;
    auto witness = world::FrameWitness::start(
        world_.lan(), {world::World::kAlphaPort, world::World::kBetaPort}, *world::parse_mac(kMac));
    if (!witness) return witness.error();
    witness_ = std::move(*witness);
    events_.follow("alpha", world_.alpha().api());
    events_.follow("beta", world_.beta().api());
    auto client = Client::start(path_->client(), Path::kClientAddress, kGuestAddress);
    if (!client) return client.error();
    client_ = std::move(*client);
    return {};
  }

  // Whether the guest is ready is read from its console: a TCP connection would be its first.
  Result<void> boot() {
    display_.step("Boot the VM on alpha.");
    if (auto done = call(world_.alpha(), "/start", nlohmann::json::object(), kStartTimeout); !done)
      return done;
    const auto status = world_.alpha().api().get("/v1/status", seconds(5));
    if (status) outcome_.accelerator = demo::text_at(*status, "/qemu/accel");
    const auto serial = world_.alpha().place().run_dir / kVm / "serial.log";
    const auto give_up = Clock::now() + kBootTimeout;
    for (;;) {
      std::ifstream file(serial);
      for (std::string line; std::getline(file, line);)
        if (line.starts_with("BOOTED")) return {};
      if (Clock::now() > give_up)
        return Error{Errc::timed_out,
                     "the guest does not boot; its last words:" + world::file_tail(serial, 8)};
      if (interrupt_.wait_for(kTick)) return interrupted();
      show_events();
    }
  }

  Result<void> protect() {
    const std::string policy(to_string(options_.setting.policy));
    display_.step("Protect it from " + primary_->name() + " to " + secondary_->name() +
                  ", policy " + policy + ".");
    const nlohmann::json body{{"peer", secondary_->name()}, {"policy", policy}};
    // A host that has just come back may not be found at once: who looked for it while it was away
    // remembers that for a moment.
    const auto give_up = Clock::now() + kReachTimeout;
    for (;;) {
      auto done = call(*primary_, "/protect", body, kProtectTimeout);
      if (done || done.error().code != Errc::unavailable || Clock::now() > give_up) return done;
      if (interrupt_.wait_for(kTick)) return interrupted();
    }
  }

  // ---- connections

  struct Entry {
    Kind kind;
    std::string name;
    std::size_t number;                       // the client's
    std::optional<std::uint64_t> checkpoint;  // the newest that had begun at its opening
    std::size_t blow;                         // the next one at its opening
  };

  void open(Kind kind, std::string name, std::unique_ptr<Exchange> exchange, Opening opening = {},
            std::optional<std::uint64_t> checkpoint = std::nullopt) {
    const auto number = client_->open(std::move(exchange), opening);
    entries_.push_back({kind, std::move(name), number, checkpoint, result().kills.size()});
  }

  std::unique_ptr<Exchange> echo(bool says_echo = true, Time when = Clock::now()) {
    EchoOptions options;
    options.seed = plan_.seed * 1000 + entries_.size();
    options.says_echo = says_echo;
    // In step they would all be answered by the same checkpoint.
    return make_echo(options, when + milliseconds(7 * entries_.size() % 50));
  }

  std::uint64_t stream_seed() const { return plan_.seed * 1000 + 500 + entries_.size(); }

  Result<void> open_before(bool first_blow) {
    if (wants(Kind::first) || !first_blow) return {};
    if (wants(Kind::before))
      for (int i = 0; i < kEchoes; ++i) open(Kind::before, "before", echo());
    if (wants(Kind::guest))
      open(Kind::guest, "opened by the guest before the checkpoint", echo(false),
           {.by = Opening::By::guest});
    if (wants(Kind::wrap)) {
      for (const auto& wrap : plan_.wraps) {
        const std::uint32_t number = 0U - wrap.bytes_left;
        if (wrap.by_guest)
          open(Kind::wrap, "wraps the guest's numbers", echo(false),
               {.by = Opening::By::guest, .sequence = number});
        else
          open(Kind::wrap, "wraps the client's numbers", echo(), {.sequence = number});
      }
    }
    const bool sack = wants(Kind::sack);
    if (wants(Kind::bulk_up))
      open(Kind::bulk_up, "stream to the guest", make_upload(stream_seed(), kUploadStep));
    if (wants(Kind::bulk_down))
      open(Kind::bulk_down, "stream from the guest", make_download(stream_seed(), kDownloadWindow));
    if (sack) {
      open(Kind::sack, "stream to the guest", make_upload(stream_seed(), kUploadStep));
      open(Kind::sack, "stream from the guest", make_download(stream_seed(), kDownloadWindow));
    }
    if (wants(Kind::random))
      open(Kind::random, "random answers", make_random(kRandomInterval, Clock::now()));
    if (entries_.empty()) return {};
    if (auto done = await_answers("before the checkpoint"); !done) return done;
    if (wants(Kind::random)) {
      random_checkpoints_ = checkpoints("/checkpoints/committed");
      random_replies_ = random_replies();
    }
    return {};
  }

  Result<void> open_after(bool first_blow) {
    if (auto done = force_checkpoint(); !done) return done;
    const bool periodic = options_.setting.policy == Policy::periodic;
    // One that the guest opens may ask for a checkpoint itself; the others come behind it.
    if (wants(Kind::guest) && !wants(Kind::first)) {
      open(Kind::guest, "opened by the guest after the checkpoint", echo(false),
           {.by = Opening::By::guest}, checkpoints("/checkpoints/last"));
      if (!periodic)
        if (auto done = await_answers("dialed by the guest"); !done) return done;
    }
    if (!first_blow || wants(Kind::after) || wants(Kind::first)) {
      const auto last = checkpoints("/checkpoints/last");
      const auto kind = first_blow && wants(Kind::first) ? Kind::first : Kind::after;
      if (kind == Kind::first) {
        open(Kind::first, "the guest's first", echo(), {}, last);
        // In colo mode both VMs answer it now; only then is it the first.
        if (!periodic)
          if (auto done = await_answers("first"); !done) return done;
      }
      if (wants(Kind::after) || !first_blow)
        for (int i = 0; i < kEchoes; ++i) open(Kind::after, "after", echo(), {}, last);
    }
    opened_after_ = Clock::now();
    return {};
  }

  // The answer to a request for random bytes differs between two running copies of the VM, and
  // waits for a commit in any mode: when it comes, a checkpoint has been made since it was asked
  // for. It goes by UDP, so that no TCP connection is made.
  Result<void> force_checkpoint() {
    auto socket = path_->client().open_socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    if (!socket) return socket.error();
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(kPeerdPort);
    ::inet_pton(AF_INET, kGuestAddress, &to.sin_addr);
    const std::string request = "RANDOM 0";
    const auto give_up = Clock::now() + kCheckpointTimeout;
    while (Clock::now() < give_up) {
      [[maybe_unused]] const auto sent =
          ::sendto(socket->get(), request.data(), request.size(), 0,
                   reinterpret_cast<const sockaddr*>(&to), sizeof to);
      pollfd readable{socket->get(), POLLIN, 0};
      ::poll(&readable, 1, 1000);
      if (interrupt_.raised()) return interrupted();
      show_events();
      std::array<char, 128> answer{};
      if (::recv(socket->get(), answer.data(), answer.size(), 0) > 0) return {};
    }
    return Error{Errc::timed_out,
                 "no checkpoint was made in time: a request for random bytes "
                 "was not answered"};
  }

  Result<void> await_answers(const std::string& which) {
    const auto give_up = Clock::now() + kAnswerTimeout;
    for (;;) {
      const auto all = client_->progress();
      std::string missing;
      for (const auto& entry : entries_) {
        const auto& one = all[entry.number];
        if (one.ended)
          return Error{Errc::closed, entry.name + ", before anything was killed: " + one.problem};
        if (one.replies == 0) missing = entry.name;
      }
      if (missing.empty()) return {};
      if (Clock::now() > give_up)
        return Error{Errc::timed_out, "no answer on a connection (" + missing + ", " + which + ")"};
      if (interrupt_.wait_for(kTick)) return interrupted();
      show_events();
    }
  }

  std::optional<std::uint64_t> checkpoints(const char* which) {
    return demo::count_at(demo::look_at(*primary_, kVm).vm, which);
  }

  std::uint64_t random_replies() {
    std::uint64_t sum = 0;
    const auto all = client_->progress();
    for (const auto& entry : entries_)
      if (entry.kind == Kind::random) sum += all[entry.number].replies;
    return sum;
  }

  // ---- the kill

  Result<void> strike(const RoundPlan::Blow& blow) {
    const auto due = std::max(opened_after_ + blow.gap, Clock::now() + kAim + kHandshakeLead);
    const bool first_blow = result().kills.empty();
    if (first_blow && wants(Kind::handshake)) {
      for (const auto& handshake : plan_.handshakes) {
        const auto when = due + handshake.offset;
        Opening opening;
        opening.when = when;
        if (handshake.by_guest) opening.by = Opening::By::guest;
        open(Kind::handshake,
             (handshake.by_guest ? "dialed by the guest at " : "opened at ") +
                 fixed(static_cast<double>(handshake.offset.count()) / 1000, 1) + " ms",
             echo(!handshake.by_guest, when), opening);
      }
    }
    while (Clock::now() < due - kAim) {
      if (interrupt_.wait_until(std::min(due - kAim, Clock::now() + kTick))) return interrupted();
      show_events();
    }
    if (wants(Kind::random) && first_blow) {
      const auto replies = random_replies();
      const auto committed = checkpoints("/checkpoints/committed");
      // One answer may have been on its way when the count began.
      if (random_checkpoints_ && committed && replies > random_replies_) {
        result().random_replies = replies - random_replies_ - 1;
        result().random_checkpoints = *committed - *random_checkpoints_;
      }
    }
    const auto before = demo::look_at(*primary_, kVm);
    auto target = demo::take_aim(*primary_, *secondary_, kVm);
    if (!target) return target.error();
    if (interrupt_.wait_until(due)) return interrupted();
    witness_->mark();
    killed_at_ = Clock::now();
    kill_times_.push_back(killed_at_);
    killed_wall_ =
        std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
    const auto struck = demo::strike(*target, blow.kind, blow.hang);
    if (!struck) return struck.error();
    result().kills.push_back(blow.kind);
    result().before.push_back(before.vm);
    survives_ = blow.kind == KillKind::secondary_host ? primary_ : secondary_;
    kill_ = blow.kind;
    display_.bad("KILL: " + *struck + ".");
    return {};
  }

  // Everybody who is connected has an answer from the survivor, and goes on for a while.
  Result<void> watch_the_failover() {
    const auto give_up = killed_at_ + kFailoverTimeout;
    std::optional<Time> answered;
    while (Clock::now() < give_up && !(answered && Clock::now() > *answered + kGoOn)) {
      if (interrupt_.wait_for(kTick)) return interrupted();
      show_events();
      const auto running = running_since();
      if (!running || answered) continue;
      const auto all = client_->progress();
      const auto served = [&](const Progress& one) {
        return one.ended || (one.last_answer && *one.last_answer > *running);
      };
      if (std::ranges::all_of(all, served)) answered = Clock::now();
    }
    if (!answered) display_.detail("not every connection was answered again");
    inspect();
    return {};
  }

  std::optional<Time> running_since() const {
    const auto events = events_.all();
    for (const char* host : {"alpha", "beta"}) {
      const auto times = demo::failover_times(events, host, killed_wall_, nlohmann::json());
      if (times.running_at)
        return killed_at_ + std::chrono::duration_cast<Clock::duration>(
                                std::chrono::duration<double>(*times.running_at - killed_wall_));
    }
    return std::nullopt;
  }

  // Who runs the VM now, and whether anybody else does.
  void inspect() {
    survivor_ = nullptr;
    std::vector<std::string> problems;
    const auto deadline = Clock::now() + kSettleTimeout;
    do {
      problems.clear();
      const auto alpha = demo::look_at(world_.alpha(), kVm);
      const auto beta = demo::look_at(world_.beta(), kVm);
      if (alpha.serves() == beta.serves()) {
        problems.push_back(std::string(alpha.serves() ? "both hosts say" : "no host says") +
                           " that it runs the VM: alpha reports " + alpha.describe() + ", beta " +
                           beta.describe());
      } else {
        survivor_ = alpha.serves() ? &world_.alpha() : &world_.beta();
        survivor_view_ = alpha.serves() ? alpha : beta;
        const auto& other_view = alpha.serves() ? beta : alpha;
        if (survivor_ != survives_ && kill_ != KillKind::primary_daemon)
          problems.push_back("the VM runs on " + survivor_->name() + ", not on " +
                             survives_->name());
        if (!world_.other(*survivor_).qemu_processes().empty() &&
            !(other_view.answers && other_view.stands_still()))
          problems.push_back("a second QEMU is left on " + world_.other(*survivor_).name());
      }
      if (problems.empty() || interrupt_.wait_for(kTick)) break;
    } while (Clock::now() < deadline);
    for (auto& problem : problems) result().failures.push_back(std::move(problem));
    result().survivors.push_back(survivor_ != nullptr ? survivor_->name() : "");
    if (survivor_ == nullptr) {
      result().failover_ms.emplace_back();
      result().after.emplace_back();
      return;
    }
    result().after.push_back(survivor_view_.vm);
    const auto seen = witness_->sightings();
    const bool alpha = survivor_ == &world_.alpha();
    for (auto& problem :
         demo::witness_problems(seen[alpha ? 0 : 1], alpha ? "alpha" : "beta", seen[alpha ? 1 : 0],
                                alpha ? "beta" : "alpha", survivor_ == primary_))
      result().failures.push_back(std::move(problem));
    const auto times =
        demo::failover_times(events_.all(), survivor_->name(), killed_wall_, survivor_view_.vm);
    result().failover_ms.push_back(times.failover_ms);
    // Which checkpoint the VM goes on from; a primary that stays goes on from where it is.
    resumed_from_.push_back(survivor_ == primary_
                                ? demo::count_at(result().before.back(), "/checkpoints/last")
                                : demo::count_at(survivor_view_.vm, "/failover/checkpoint"));
    display_.step("The VM goes on on " + survivor_->name() + ", " +
                  (times.failover_ms ? fixed(*times.failover_ms, 0) : std::string("?")) +
                  " ms after the kill.");
  }

  // The dead host comes back, empty, for the survivor to protect its VM to.
  Result<void> revive() {
    primary_ = survivor_;
    secondary_ = &world_.other(*survivor_);
    if (secondary_->daemon() == nullptr || !secondary_->daemon()->running()) {
      if (auto cabled = secondary_->restore_links(); !cabled) return cabled;
      auto daemon = daemon_;
      if (secondary_ != &world_.alpha()) daemon.vms.clear();
      if (auto started = secondary_->start_daemon(daemon); !started) return started;
    }
    display_.step(secondary_->name() + " is back.");
    return {};
  }

  // ---- the account

  Result<void> settle_accounts() {
    const auto begin = Clock::now();
    auto finished = client_->finish_all(kFinishTimeout);
    while (finished.wait_for(kTick) != std::future_status::ready) {
      if (interrupt_.raised()) return interrupted();
      show_events();
    }
    const auto outcomes = finished.get();
    for (const auto& entry : entries_) account_for(entry, outcomes[entry.number], begin);
    if (const auto wrong = checksum_errors(path_->client())) {
      result().checksum_errors = *wrong;
      if (*wrong > 0)
        result().failures.push_back(std::to_string(*wrong) +
                                    " segments came to the client with a wrong checksum");
    }
    result().line = path_->line();
    tell();
    return {};
  }

  void account_for(const Entry& entry, const Outcome& outcome, Time end) {
    ConnectionResult one;
    one.kind = entry.kind;
    one.name = entry.name;
    one.survived = outcome.survived;
    one.problem = outcome.problem;
    for (std::size_t i = entry.blow; i < kill_times_.size(); ++i)
      one.outage_ms.push_back(outage_ms(outcome, kill_times_[i],
                                        i + 1 < kill_times_.size() ? kill_times_[i + 1] : end));
    if (outcome.established) {
      one.connect_ms = in_ms(*outcome.established - outcome.opened);
      one.seconds = in_ms(end - *outcome.established) / 1000;
    }
    one.bytes_sent = outcome.account.sent;
    one.bytes_received = outcome.account.received;
    // What an upload has "received" is what was confirmed of the bytes that it sent.
    if (entry.kind == Kind::bulk_up) one.bytes_received = 0;
    one.replies = outcome.account.replies;
    one.after_last_checkpoint = entry.checkpoint && entry.blow < resumed_from_.size() &&
                                resumed_from_[entry.blow] &&
                                *resumed_from_[entry.blow] <= *entry.checkpoint;
    one.wrapped = outcome.wrapped;
    one.retransmitted = outcome.retransmitted;
    if (!one.survived)
      result().failures.push_back(std::string(to_string(one.kind)) + " (" + one.name +
                                  "): " + one.problem);
    result().connections.push_back(std::move(one));
  }

  void tell() {
    std::size_t survived = 0;
    double longest = 0;
    for (const auto& one : result().connections) {
      survived += one.survived ? 1 : 0;
      for (const double outage : one.outage_ms) longest = std::max(longest, outage);
    }
    const auto text = std::to_string(survived) + " of " +
                      std::to_string(result().connections.size()) +
                      " connections live, each byte is right; the longest silence was " +
                      fixed(longest, 0) + " ms.";
    if (result().passed())
      display_.good(text);
    else
      display_.bad(text);
    for (const auto& failure : result().failures) display_.bad(failure);
  }

  void show_events() {
    for (const auto& event : events_.take_new())
      display_.event(event.host, event.message.empty() ? event.type : event.message);
  }

  Result<void> call(world::Host& host, const std::string& action, const nlohmann::json& body,
                    milliseconds timeout) {
    auto future = std::async(std::launch::async, [api = host.api(), action, body, timeout] {
      return api.post(kVmPath + action, body, timeout);
    });
    while (future.wait_for(kTick) != std::future_status::ready) {
      show_events();
      if (!interrupt_.raised()) continue;
      // The call ends with the daemon that it waits for.
      [[maybe_unused]] const auto ended = host.kill_everything();
      return interrupted();
    }
    if (const auto answer = future.get(); !answer) return with_context(action, answer.error());
    return {};
  }

  const RoundOptions& options_;
  const RoundPlan& plan_;
  demo::Display& display_;
  demo::Interrupt& interrupt_;
  world::World& world_;
  world::Host* primary_;
  world::Host* secondary_;
  world::Host* survives_ = nullptr;  // who should
  world::Host* survivor_ = nullptr;  // who does
  world::DaemonOptions daemon_;
  std::unique_ptr<Path> path_;
  std::unique_ptr<world::FrameWitness> witness_;
  demo::EventFollower events_;
  std::unique_ptr<Client> client_;
  std::vector<Entry> entries_;
  RoundOutcome outcome_;
  demo::HostView survivor_view_;
  KillKind kill_ = KillKind::primary_host;
  Time opened_after_, killed_at_;
  double killed_wall_ = 0;
  std::vector<Time> kill_times_;
  std::vector<std::optional<std::uint64_t>> resumed_from_;
  std::optional<std::uint64_t> random_checkpoints_;
  std::uint64_t random_replies_ = 0;
};

}  // namespace

Result<RoundOutcome> run_round(const RoundOptions& options, const RoundPlan& plan,
                               demo::Display& display, demo::Interrupt& interrupt) {
  world::WorldOptions world_options;
  world_options.keep = options.keep;
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

}  // namespace tandem::survival
