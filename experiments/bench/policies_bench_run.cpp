#include "experiments/bench/policies_bench_run.hpp"

#include <chrono>
#include <cmath>
#include <iomanip>
#include <memory>
#include <sstream>

#include "experiments/bench/bench_vm.hpp"
#include "experiments/bench/pause_bench_cpu.hpp"
#include "experiments/demo/failover_times.hpp"
#include "experiments/survival/client.hpp"
#include "experiments/survival/path.hpp"

namespace tandem::bench {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr milliseconds kTick{20};
// The daemon keeps the newest 1,000 events, and there are some dozens a second.
constexpr milliseconds kPoll{250};
constexpr milliseconds kAnswerTimeout{2000};
// From the client's beginning to its first request: its connection is made meanwhile.
constexpr milliseconds kConnect{200};
constexpr seconds kFinishTimeout{20};

Clock::duration in_seconds(double time) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(time));
}

class Watch {
 public:
  Watch(PolicyRun run, const PoliciesSetting& setting, const world::Installation& installation,
        world::World& world, demo::Display& display, demo::Interrupt& interrupt)
      : setting_(setting),
        world_(world),
        display_(display),
        interrupt_(interrupt),
        vm_(installation, interrupt, world) {
    result_.run = std::move(run);
  }

  Result<WatchedRun> play() {
    if (auto done = vm_.boot(); !done) return done.error();
    result_.qemu_version = vm_.qemu_version();
    result_.accelerator = vm_.accelerator();
    if (auto done = start_client(); !done) return done.error();
    const nlohmann::json body{{"peer", "beta"}, {"policy", run().policy}};
    auto done = vm_.post("/protect", body);
    if (done) done = watch();
    if (done) done = finish();
    if (interrupt_.raised()) return interrupted();
    if (!done) run().problem = done.error().message + "; " + alphas_view();
    return std::move(result_);
  }

 private:
  PolicyRun& run() { return result_.run; }

  std::string alphas_view() {
    const auto view = vm_.look();
    const auto last_error = demo::text_at(view.vm, "/last_error");
    return "alpha reports " + view.describe() + (last_error.empty() ? "" : ", " + last_error);
  }

  Result<void> start_client() {
    auto path = survival::Path::build(world_, {});
    if (!path) return path.error();
    path_ = std::move(*path);
    auto client =
        survival::Client::start(path_->client(), survival::Path::kClientAddress, BenchVm::kAddress);
    if (!client) return client.error();
    client_ = std::move(*client);
    return {};
  }

  Result<void> watch() {
    const auto& schedule = run().schedule;
    const CpuMeter cpu;
    const auto first_due = Clock::now() + kConnect;
    run().begin = first_due + in_seconds(schedule.lead_s);
    unix_begin_ =
        std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count() +
        std::chrono::duration<double>(run().begin - Clock::now()).count();
    survival::ServiceOptions service;
    service.pages = setting_.pages;
    service.requests_per_second = setting_.rate;
    service.begin = first_due;
    service.end = run().begin + in_seconds(schedule.counted_s());
    service.random = [schedule, begin = run().begin](survival::Time due) {
      const auto at_s = std::chrono::duration<double>(due - begin).count();
      return schedule.replies_at(at_s) == Replies::random;
    };
    client_->open(survival::make_service(service), {});
    for (const auto& span : schedule.spans()) {
      if (auto done = wait_until(span.from_s); !done) return done;
      if (auto done = count(); !done) return done;
    }
    if (auto done = wait_until(schedule.counted_s()); !done) return done;
    if (auto done = count(); !done) return done;
    run().others_cpu = cpu.others_seconds() / (schedule.lead_s + schedule.counted_s());
    return {};
  }

  [[nodiscard]] double now_s() {
    return std::chrono::duration<double>(Clock::now() - run().begin).count();
  }

  // Meanwhile hears what the daemon has to say.
  Result<void> wait_until(double at_s) {
    const auto end = run().begin + in_seconds(at_s);
    for (;;) {
      const bool last = Clock::now() + kPoll >= end;
      if (interrupt_.wait_until(last ? end : Clock::now() + kPoll)) return interrupted();
      if (last) return {};
      if (auto heard = hear(); !heard) return heard;
      if (client_->progress().at(0).ended)
        return Error{Errc::closed, "the client's connection: " + client_->progress().at(0).problem};
      show();
    }
  }

  Result<void> hear() {
    if (auto done = hear_events(); !done) return done;
    return hear_observations();
  }

  Result<void> hear_events() {
    const auto answer =
        world_.alpha().api().get("/v1/events?after=" + std::to_string(next_event_), kAnswerTimeout);
    if (!answer) return with_context("alpha's events", answer.error());
    for (const auto& event : answer->value("events", nlohmann::json::array())) {
      const auto at_s = demo::number_at(event, "/time").value_or(0) - unix_begin_;
      const auto type = demo::text_at(event, "/type");
      if (type == "mismatch") run().mismatches.push_back(at_s);
      if (type == "mode") add_mode(event, at_s);
    }
    next_event_ = demo::count_at(*answer, "/next").value_or(next_event_);
    return {};
  }

  void add_mode(const nlohmann::json& event, double at_s) {
    ModeChange change;
    change.at_s = at_s;
    change.mode = demo::text_at(event, "/data/mode");
    change.reason = demo::text_at(event, "/data/reason");
    change.checkpoint = demo::count_at(event, "/data/checkpoint").value_or(0);
    change.figures = event.at("data").value("figures", nlohmann::json());
    run().modes.push_back(std::move(change));
  }

  Result<void> hear_observations() {
    auto page = vm_.get("/observations?after=" + std::to_string(next_observation_));
    if (!page) return with_context("alpha's observations", page.error());
    next_observation_ = demo::count_at(*page, "/next").value_or(next_observation_);
    if (result_.recording.is_null()) {
      result_.recording = std::move(*page);
    } else {
      auto& records = result_.recording["records"];
      for (const auto& record : page->value("records", nlohmann::json::array()))
        records.push_back(record);
      result_.recording["next"] = next_observation_;
    }
    return {};
  }

  Result<void> count() {
    const auto view = vm_.look();
    if (view.state() != "protected")
      return Error{Errc::conflict, "the VM is not protected any more"};
    Counted counted;
    counted.at_s = now_s();
    counted.stopped_ms = demo::number_at(view.vm, "/pause_ms/mean").value_or(0) *
                         demo::number_at(view.vm, "/pause_ms/count").value_or(0);
    counted.checkpoints = demo::count_at(view.vm, "/checkpoints/last").value_or(0);
    run().counted.push_back(counted);
    return {};
  }

  void show() {
    const auto progress = client_->progress().at(0);
    const double at_s = now_s();
    std::ostringstream text;
    text << std::fixed << std::setprecision(0) << at_s << " s of " << run().schedule.counted_s()
         << " s: " << to_string(run().schedule.replies_at(at_s)) << " replies, "
         << (run().modes.empty() ? "periodic" : run().modes.back().mode) << " mode, "
         << progress.replies << " replies, " << run().mismatches.size() << " differences";
    display_.status(text.str());
  }

  Result<void> finish() {
    auto finished = client_->finish_all(kFinishTimeout);
    while (finished.wait_for(kTick) != std::future_status::ready)
      if (interrupt_.raised()) return interrupted();
    // Also what was said after the last phase's end.
    if (auto heard = hear(); !heard) return heard;
    const auto outcomes = finished.get();
    run().latencies = outcomes.at(0).account.latencies;
    if (!outcomes.at(0).survived)
      return Error{Errc::closed, "the client's connection: " + outcomes.at(0).problem};
    return {};
  }

  const PoliciesSetting& setting_;
  world::World& world_;
  demo::Display& display_;
  demo::Interrupt& interrupt_;
  BenchVm vm_;
  std::unique_ptr<survival::Path> path_;
  std::unique_ptr<survival::Client> client_;
  WatchedRun result_;
  double unix_begin_ = 0;  // of the first phase that counts
  std::uint64_t next_event_ = 0, next_observation_ = 0;
};

}  // namespace

Result<WatchedRun> watch_policy(PolicyRun run, const PoliciesSetting& setting,
                                const world::Installation& installation, world::World& world,
                                demo::Display& display, demo::Interrupt& interrupt) {
  return Watch(std::move(run), setting, installation, world, display, interrupt).play();
}

}  // namespace tandem::bench
