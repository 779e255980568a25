// tandem-bench-watching: what it costs tandemd to be watched: the processor time of a scrape of the
// metrics, of a round of the page and of a round of `tandem top`, for 50 VMs of which one is a real
// protected pair's.
//
// All of it is asked through the daemon's own servers, and the time is that of the whole daemon's
// process, the kernel's work for it included. What the other 49 would add if they were protected,
// too, is measured apart and added: see docs/benchmarks.md.

#include <sys/socket.h>
#include <time.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <iostream>

#include "base/asio.hpp"
#include "engine/metrics/exposition.hpp"
#include "experiments/bench/bench_vm.hpp"
#include "experiments/demo/display.hpp"
#include "experiments/demo/interrupt.hpp"
#include "experiments/world/installation_options.hpp"
#include "experiments/world/sandbox.hpp"
#include "tests/unit/full_sample.hpp"

namespace tandem::bench {
namespace {

namespace http = boost::beast::http;
using std::chrono::duration;
using std::chrono::seconds;
using Clock = std::chrono::steady_clock;

constexpr int kPassed = 0;
constexpr int kFailed = 1;
constexpr int kCannotRun = 2;
constexpr int kInterrupted = 130;

constexpr std::uint16_t kWebPort = 7071;
/// Who watches how often: Prometheus, one page, one `tandem top`.
constexpr double kScrapeEvery = 5;
constexpr double kPageEvery = 2;
constexpr double kTopEvery = 2;
/// VMs that a large screen shows, of which page and top ask for observations.
constexpr int kSeen = 6;
/// Observations that have come since the last round.
constexpr std::uint64_t kNews = 8;
constexpr double kPromisedShare = 0.01;

struct Arguments {
  std::string json;
  int vms = 50;
  double seconds = 4;
  world::Installation installation;
  bool enforce = false, keep = false, verbose = false;
};

double seconds_of(clockid_t clock) {
  timespec time{};
  ::clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

/// One connection that is kept, as Prometheus and browsers keep theirs.
class Asker {
 public:
  /// To the daemon's web port on `host`.
  static Result<Asker> to_web(const world::Host& host) {
    auto socket = host.net().open_socket(AF_INET, SOCK_STREAM, 0);
    if (!socket) return socket.error();
    const asio::ip::tcp::endpoint address(asio::ip::address_v4::loopback(), kWebPort);
    return connect(*socket, address.data(), address.size());
  }
  /// To its API.
  static Result<Asker> to_api(const world::Host& host) {
    UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!socket) return system_error("cannot make a socket", errno);
    const asio::local::stream_protocol::endpoint address(host.place().api_socket.string());
    return connect(socket, address.data(), address.size());
  }

  Result<std::string> get(const std::string& path) {
    http::request<http::empty_body> request(http::verb::get, path, 11);
    request.set(http::field::host, "127.0.0.1");
    http::response_parser<http::string_body> parser;
    parser.body_limit(16u << 20);
    boost::system::error_code ec;
    http::write(*socket_, request, ec);
    if (!ec) http::read(*socket_, *buffer_, parser, ec);
    if (ec) return Error{Errc::closed, path + ": " + ec.message()};
    if (parser.get().result_int() != 200)
      return Error{Errc::protocol, path + ": " + parser.get().body()};
    return parser.get().body();
  }

 private:
  using Socket = asio::generic::stream_protocol::socket;

  static Result<Asker> connect(UniqueFd& socket, const sockaddr* address, std::size_t size) {
    if (::connect(socket.get(), address, static_cast<socklen_t>(size)) != 0) {
      return system_error("cannot connect to tandemd", errno);
    }
    Asker asker;
    asker.context_ = std::make_unique<asio::io_context>();
    const asio::generic::stream_protocol protocol(address->sa_family, 0);
    asker.socket_ = std::make_unique<Socket>(*asker.context_, protocol, socket.release());
    asker.buffer_ = std::make_unique<boost::beast::flat_buffer>();
    return asker;
  }

  std::unique_ptr<asio::io_context> context_;
  std::unique_ptr<Socket> socket_;
  std::unique_ptr<boost::beast::flat_buffer> buffer_;
};

/// What is asked, and what an answer costs.
struct Question {
  const char* name;
  Result<Asker> (*connect)(const world::Host&);
  std::string path;  ///< of observations: without the number after which they are wanted
  std::size_t bytes = 0;
  double cpu = 0;  ///< the daemon's, in seconds
};

class Benchmark {
 public:
  Benchmark(const Arguments& arguments, demo::Display& display, demo::Interrupt& interrupt,
            world::World& world)
      : arguments_(arguments),
        display_(display),
        interrupt_(interrupt),
        world_(world),
        vm_(arguments.installation, interrupt, world) {}

  Result<nlohmann::json> run() {
    display_.step("Boot a VM on a host that knows " + std::to_string(arguments_.vms) + ".");
    vm_.add_definitions(arguments_.vms - 1);
    if (auto done = vm_.boot(); !done) return done.error();
    const nlohmann::json body{{"peer", "beta"}, {"policy", "periodic"}};
    if (auto done = vm_.post("/protect", body); !done) return done.error();
    if (auto done = find_worker(); !done) return done.error();
    display_.step("Let it run until it has observations to show.");
    if (interrupt_.wait_for(seconds(20))) return interrupted();
    // Checkpoints would cost more than what is measured, and not the same in each second.
    const nlohmann::json seldom{{"parameters", {{"period_ms", 60'000}}}};
    if (auto done = vm_.post("/policy", seldom); !done) return done.error();

    auto web = Asker::to_web(world_.alpha());
    if (!web) return web.error();
    const auto own = std::string("/v1/vms/") + BenchVm::kName;
    const auto news = own + "/observations";
    const auto events = newest_event(*web);
    if (!events) return events.error();

    display_.step("Ask.");
    std::vector<Question> questions{
        {"metrics", Asker::to_web, "/metrics"},
        {"status", Asker::to_web, "/v1/status"},
        {"events", Asker::to_web, "/v1/events?after=" + std::to_string(*events)},
        {"observations", Asker::to_web, news},
        {"api_status", Asker::to_api, "/v1/status"},
        {"api_observations", Asker::to_api, news},
        {"api_protected_vm", Asker::to_api, own},
        {"api_stopped_vm", Asker::to_api, "/v1/vms/idle1"},
    };
    for (auto& question : questions) {
      if (auto done = measure(question); !done) return done.error();
    }
    const auto cpu = [&](std::string_view name) {
      return std::ranges::find(questions, name, &Question::name)->cpu;
    };

    // The other VMs are stopped ones. What they would add:
    const auto others = arguments_.vms - 1;
    const auto status_more =
        others * std::max(0.0, cpu("api_protected_vm") - cpu("api_stopped_vm"));
    const auto metrics_more = exposition_cost(true) - exposition_cost(false);
    const auto scrape = cpu("metrics") + std::max(0.0, metrics_more);
    const auto page = cpu("status") + status_more + cpu("events") + kSeen * cpu("observations");
    const auto top = cpu("api_status") + status_more + kSeen * cpu("api_observations");
    const auto share = scrape / kScrapeEvery + page / kPageEvery + top / kTopEvery;

    nlohmann::json json{{"vms", arguments_.vms},
                        {"share_of_a_processor", share},
                        {"idle_share", idle_share_},
                        {"scrape_ms", scrape * 1e3},
                        {"page_round_ms", page * 1e3},
                        {"top_round_ms", top * 1e3},
                        {"metrics_of_protected_vms_ms", metrics_more * 1e3},
                        {"status_of_protected_vms_ms", status_more * 1e3},
                        {"questions", nlohmann::json::object()}};
    for (const auto& question : questions) {
      json["questions"][question.name] = {{"cpu_ms", question.cpu * 1e3},
                                          {"bytes", question.bytes}};
    }
    return {boost::system::in_place_value, std::move(json)};
  }

 private:
  Result<void> find_worker() {
    const auto status = world_.alpha().api().get("/v1/status", seconds(5));
    if (!status) return status.error();
    const pid_t worker = (*status)["worker_pid"];
    if (::clock_getcpuclockid(worker, &worker_clock_) != 0) {
      return Error{Errc::io, "there is no clock of process " + std::to_string(worker)};
    }
    return {};
  }

  static Result<std::uint64_t> newest_event(Asker& asker) {
    const auto answer = asker.get("/v1/events");
    if (!answer) return answer.error();
    return nlohmann::json::parse(*answer)["next"].get<std::uint64_t>();
  }

  /// The processor time of many answers, less what the daemon would have used anyhow.
  Result<void> measure(Question& question) {
    const auto idle_began = Clock::now();
    const auto idle_from = seconds_of(worker_clock_);
    if (interrupt_.wait_until(Clock::now() + part_of(arguments_.seconds))) return interrupted();
    idle_share_ = (seconds_of(worker_clock_) - idle_from) /
                  duration<double>(Clock::now() - idle_began).count();
    auto asker = question.connect(world_.alpha());
    if (!asker) return asker.error();
    auto path = question.path;
    const bool follows = path.ends_with("/observations");
    // Once for nothing, so that all is warm and the newest observation is known.
    for (std::uint64_t next = 0, known = 1; known != next;) {
      known = next;
      const auto first = asker->get(path);
      if (!first) return first.error();
      if (!follows) break;
      next = nlohmann::json::parse(*first)["next"];
      path = question.path + "?after=" + std::to_string(next);
    }
    const auto began = Clock::now();
    const auto from = seconds_of(worker_clock_);
    int answers = 0;
    for (; Clock::now() < began + part_of(arguments_.seconds); ++answers) {
      const auto answer = asker->get(path);
      if (!answer) return answer.error();
      question.bytes = answer->size();
      if (!follows) continue;
      const std::uint64_t next = nlohmann::json::parse(*answer)["next"];
      path = question.path + "?after=" + std::to_string(next - kNews);
    }
    const auto used = seconds_of(worker_clock_) - from;
    const auto elapsed = duration<double>(Clock::now() - began).count();
    question.cpu = std::max(0.0, used - idle_share_ * elapsed) / answers;
    return {};
  }

  static Clock::duration part_of(double time) {
    return std::chrono::duration_cast<Clock::duration>(duration<double>(time));
  }

  /// Processor seconds of putting all VMs into words, in this process: protected ones with numbers
  /// of many digits, or stopped ones.
  [[nodiscard]] double exposition_cost(bool protected_vms) const {
    std::vector<metrics::VmSample> vms;
    for (int i = 0; i < arguments_.vms; ++i) {
      auto vm = metrics::full_sample("idle" + std::to_string(i));
      if (!protected_vms) {
        metrics::VmSample stopped;
        stopped.vm = vm.vm;
        stopped.pause = prometheus::Histogram(metrics::pause_buckets()).Collect();
        stopped.commit_latency = prometheus::Histogram(metrics::commit_latency_buckets()).Collect();
        vm = stopped;
      }
      vms.push_back(std::move(vm));
    }
    const auto host = metrics::full_host_sample();
    std::size_t length = 0;
    const auto from = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
    constexpr int rounds = 200;
    for (int i = 0; i < rounds; ++i) length += metrics::to_text(metrics::collect(host, vms)).size();
    const auto used = seconds_of(CLOCK_PROCESS_CPUTIME_ID) - from;
    return length > 0 ? used / rounds : 0;
  }

  const Arguments& arguments_;
  demo::Display& display_;
  demo::Interrupt& interrupt_;
  world::World& world_;
  BenchVm vm_;
  clockid_t worker_clock_{};
  double idle_share_ = 0;
};

std::string to_text(const nlohmann::json& result) {
  char line[160];
  std::string text;
  const auto add = [&](const char* what, double value, const char* unit) {
    std::snprintf(line, sizeof line, "%-58s %8.3f %s\n", what, value, unit);
    text += line;
  };
  const auto number = [&](const char* key) { return result[key].get<double>(); };
  text += "Processor time of tandemd, " + std::to_string(result["vms"].get<int>()) + " VMs\n";
  add("a scrape of /metrics", number("scrape_ms"), "ms");
  add("a round of the page (status, events, 6 observations)", number("page_round_ms"), "ms");
  add("a round of tandem top (status, 6 observations)", number("top_round_ms"), "ms");
  add("a scrape every 5 s, page and top every 2 s: of a processor",
      number("share_of_a_processor") * 100, "%");
  add("without anybody who watches, in this run", number("idle_share") * 100, "%");
  return text;
}

int run(const Arguments& arguments) {
  const auto fail = [](const Error& error) {
    std::cerr << "tandem-bench-watching: " << error.message << "\n";
    return kCannotRun;
  };
  demo::Interrupt interrupt;
  demo::Display display(stderr, arguments.verbose);
  if (auto ready = arguments.installation.check(); !ready) return fail(ready.error());
  world::WorldOptions options;
  options.keep = arguments.keep;
  auto world = world::World::make(options);
  if (!world) return fail(world.error());
  Benchmark benchmark(arguments, display, interrupt, *world);
  const auto result = benchmark.run();
  display.clear_status();
  if (!result) {
    if (interrupt.raised()) return kInterrupted;
    world->keep();
    std::cerr << "tandem-bench-watching: all logs are in " << world->directory().string() << "\n";
    return fail(result.error());
  }
  (arguments.json == "-" ? std::cerr : std::cout) << to_text(*result);
  if (!arguments.json.empty())
    if (auto written = world::write_json(arguments.json, *result); !written)
      return fail(written.error());
  const bool kept = (*result)["share_of_a_processor"] < kPromisedShare;
  if (!arguments.enforce || kept) return kPassed;
  std::cerr << "tandem-bench-watching: being watched costs more than 1 % of a processor\n";
  return kFailed;
}

}  // namespace
}  // namespace tandem::bench

int main(int argc, char** argv) {
  using namespace tandem;
  bench::Arguments arguments;
  CLI::App app{
      "Measures what it costs tandemd to be watched by Prometheus, the page and `tandem top`, for\n"
      "many VMs, one of them protected. Everything happens in private namespaces: nothing of this\n"
      "machine's network is touched.\n",
      "tandem-bench-watching"};
  app.add_option("--json", arguments.json, "write the results to this file, - for standard output");
  app.add_option("--vms", arguments.vms, "how many VMs the daemon knows")
      ->check(CLI::Range(2, 1000))
      ->capture_default_str();
  app.add_option("--seconds", arguments.seconds, "how long each question is asked")
      ->check(CLI::Range(0.5, 600.0))
      ->capture_default_str();
  world::add_options(app, arguments.installation);
  app.add_flag("--enforce", arguments.enforce, "fail, too, if it is 1 % of a processor or more");
  app.add_flag("--keep", arguments.keep, "keep the logs");
  app.add_flag("--verbose", arguments.verbose, "tell more");
  CLI11_PARSE(app, argc, argv);
  arguments.installation.set_defaults();
  if (auto inside = world::enter_sandbox(); !inside) {
    std::cerr << "tandem-bench-watching: " << inside.error().message << "\n";
    return bench::kCannotRun;
  }
  return bench::run(arguments);
}
