// The metrics and the page of real daemons with a real pair, as Prometheus and a browser see them.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmath>
#include <map>

#include "tests/integration/browser.hpp"
#include "tests/integration/pair_life.hpp"

namespace tandem::integration {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::uint16_t web_port = 7071;

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

class WebLife : public PairLife {
 protected:
  /// What GET brings from the host's web port, head and body.
  static std::string fetch(world::Host& host, const std::string& path) {
    const auto socket = host.net().open_socket(AF_INET, SOCK_STREAM, 0);
    if (!socket) return socket.error().message;
    const auto address = loopback(web_port);
    if (::connect(socket->get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) !=
        0) {
      return "cannot connect";
    }
    const auto request =
        "GET " + path + " HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";
    if (::send(socket->get(), request.data(), request.size(), MSG_NOSIGNAL) < 0)
      return "cannot ask";
    std::string answer;
    std::array<char, 65536> piece{};
    for (ssize_t n = 0; (n = ::recv(socket->get(), piece.data(), piece.size(), 0)) > 0;) {
      answer.append(piece.data(), static_cast<std::size_t>(n));
    }
    return answer;
  }

  /// Each series by its name and labels, as they are written.
  static std::map<std::string, double> scrape(world::Host& host) {
    const auto answer = fetch(host, "/metrics");
    EXPECT_THAT(answer, testing::StartsWith("HTTP/1.1 200 OK\r\n"));
    std::map<std::string, double> series;
    std::istringstream lines(answer.substr(answer.find("\r\n\r\n") + 4));
    for (std::string line; std::getline(lines, line);) {
      const auto blank = line.rfind(' ');
      if (line.empty() || line.front() == '#' || blank == std::string::npos) continue;
      series[line.substr(0, blank)] = std::strtod(line.c_str() + blank + 1, nullptr);
    }
    return series;
  }

  double value(world::Host& host, const std::string& name, const std::string& labels = "") {
    auto series = scrape(host);
    const auto found = series.find(name + R"({vm="demo")" + labels + "}");
    return found == series.end() ? std::nan("") : found->second;
  }

  /// Remembers what counters say, and finds those that say less than before.
  void expect_no_counter_goes_back(world::Host& host, const std::string& when) {
    auto& before = counters_[host.name()];
    for (const auto& [name, now] : scrape(host)) {
      const auto base = name.substr(0, name.find('{'));
      const bool grows = base.ends_with("_total") || base.ends_with("_count") ||
                         base.ends_with("_sum") || base.ends_with("_bucket");
      if (!grows) continue;
      const auto known = before.emplace(name, now).first;
      EXPECT_GE(now, known->second) << name << " on " << host.name() << ", " << when;
      known->second = now;
    }
  }

  /// For the documents: some minutes in which the service answers now alike and now at random.
  void make_picture(Browser& browser, const std::filesystem::path& file) {
    post(alpha(), "/policy", {{"policy", "hybrid"}, {"parameters", {{"hybrid_measure", 10}}}});
    for (int minute = 0; minute < 4; ++minute) {
      std::this_thread::sleep_for(20s);
      const auto socket = world_->lan().open_socket(AF_INET, SOCK_STREAM, 0);
      ASSERT_TRUE(socket) << socket.error().message;
      sockaddr_in redis{};
      redis.sin_family = AF_INET;
      redis.sin_port = htons(6379);
      ::inet_pton(AF_INET, guest_address, &redis.sin_addr);
      ASSERT_EQ(::connect(socket->get(), reinterpret_cast<const sockaddr*>(&redis), sizeof redis),
                0);
      // Two redis tell two times, in microseconds.
      const std::string_view question = "TIME\r\n";
      for (const auto end = std::chrono::steady_clock::now() + 40s;
           std::chrono::steady_clock::now() < end;) {
        ASSERT_GT(::send(socket->get(), question.data(), question.size(), MSG_NOSIGNAL), 0);
        std::array<char, 256> answer{};
        ASSERT_GT(::recv(socket->get(), answer.data(), answer.size(), 0), 0);
      }
    }
    const auto picture = browser.screenshot();
    ASSERT_TRUE(picture) << picture.error().message;
    std::ofstream(file, std::ios::binary) << *picture;
  }

  std::map<std::string, std::map<std::string, double>> counters_;
};

TEST_F(WebLife, APairIsMeasuredOnBothHosts) {
  EXPECT_EQ(value(alpha(), "tandem_vm_qemu_running"), 1);
  EXPECT_EQ(value(alpha(), "tandem_vm_protected"), 0);
  connect_client();
  post(alpha(), "/protect", {{"peer", "beta"}});
  expect_answers("protected");
  EXPECT_TRUE(
      eventually([&] { return value(alpha(), "tandem_vm_checkpoints_loaded_total") >= 5; }));
  const auto primary = scrape(alpha());
  const auto secondary = scrape(beta());
  const auto of = [](const std::map<std::string, double>& series, const std::string& name) {
    const auto found = series.find(name);
    return found == series.end() ? std::nan("") : found->second;
  };
  EXPECT_EQ(
      of(primary,
         R"(tandem_vm_info{vm="demo",role="primary",state="protected",policy="periodic",peer="beta"})"),
      1);
  EXPECT_EQ(
      of(secondary,
         R"(tandem_vm_info{vm="demo",role="secondary",state="protected",policy="periodic",peer="alpha"})"),
      1);
  EXPECT_EQ(of(primary, R"(tandem_vm_protected{vm="demo"})"), 1);
  EXPECT_EQ(of(primary, R"(tandem_vm_mode{vm="demo",mode="periodic"})"), 1);
  EXPECT_EQ(of(primary, R"(tandem_vm_mode{vm="demo",mode="colo"})"), 0);
  const auto begun = of(primary, R"(tandem_vm_checkpoints_begun_total{vm="demo"})");
  EXPECT_GE(begun, 5);
  // Each checkpoint has paused the VM once, and each that is committed took its time.
  EXPECT_NEAR(of(primary, R"(tandem_vm_pause_seconds_count{vm="demo"})"), begun, 2);
  EXPECT_EQ(of(primary, R"(tandem_vm_commit_latency_seconds_count{vm="demo"})"),
            of(primary, R"(tandem_vm_checkpoints_committed_total{vm="demo"})"));
  EXPECT_GT(of(primary, R"(tandem_vm_commit_latency_seconds_sum{vm="demo"})"),
            of(primary, R"(tandem_vm_pause_seconds_sum{vm="demo"})") / 2);
  EXPECT_EQ(of(primary, R"(tandem_vm_controller_decisions_total{vm="demo",reason="fixed"})"),
            begun);
  EXPECT_GT(of(primary, R"(tandem_vm_dirty_bytes_total{vm="demo"})"), 0);
  EXPECT_GT(of(primary, R"(tandem_vm_wire_bytes_total{vm="demo"})"), 1 << 20);
  EXPECT_GT(of(primary, R"(tandem_vm_gate_released_frames_total{vm="demo"})"), 0);
  EXPECT_GT(of(primary, R"(tandem_vm_downtime_ratio{vm="demo"})"), 0);
  EXPECT_GT(of(primary, R"(tandem_vm_running_seconds_total{vm="demo"})"), 0);
  EXPECT_GT(of(secondary, R"(tandem_vm_checkpoints_loaded_total{vm="demo"})"), 0);
  EXPECT_GT(of(secondary, R"(tandem_vm_stopped_seconds_total{vm="demo"})"),
            of(secondary, R"(tandem_vm_running_seconds_total{vm="demo"})"));
  EXPECT_EQ(of(primary, R"(tandem_events_total{type="protected"})"), 1);
  EXPECT_EQ(of(primary, R"(tandem_events_total{type="peer-lost"})"), 0);
  EXPECT_EQ(of(primary, "tandem_build_info{version=\"" TANDEM_VERSION "\"}"), 1);
}

TEST_F(WebLife, NoCounterGoesBackWhateverHappensToThePair) {
  connect_client();
  const auto look = [&](const std::string& when) {
    for (auto* host : {&alpha(), &beta()}) expect_no_counter_goes_back(*host, when);
  };
  look("at first");
  post(alpha(), "/protect", {{"peer", "beta"}, {"policy", "colo"}});
  expect_answers("protected in colo mode");
  look("protected in colo mode");
  post(alpha(), "/policy", {{"policy", "periodic"}});
  expect_answers("protected in periodic mode");
  look("protected in periodic mode");
  const auto begun = value(alpha(), "tandem_vm_checkpoints_begun_total");
  const auto released = value(alpha(), "tandem_vm_compare_released_frames_total");
  EXPECT_GT(begun, 0);
  EXPECT_GT(released, 0);
  post(alpha(), "/unprotect");
  look("unprotected");
  EXPECT_GE(value(alpha(), "tandem_vm_checkpoints_begun_total"), begun);
  EXPECT_GE(value(alpha(), "tandem_vm_compare_released_frames_total"), released);
  post(alpha(), "/protect", {{"peer", "beta"}});
  expect_answers("protected again");
  look("protected again");
  EXPECT_GT(value(alpha(), "tandem_vm_checkpoints_begun_total"), begun);
  ASSERT_EQ(::kill(vm(alpha())["qemu_pid"].get<pid_t>(), SIGKILL), 0);
  EXPECT_TRUE(eventually([&] { return value(beta(), "tandem_vm_failovers_total") == 1; }));
  look("failed over");
  EXPECT_GT(value(beta(), "tandem_vm_last_failover_seconds", R"(,phase="running")"), 0);
  EXPECT_EQ(value(alpha(), "tandem_vm_failovers_total"), 0);
  post(beta(), "/protect", {{"peer", "alpha"}});
  expect_answers("protected from beta");
  look("protected from beta");
  expect_nothing_lost();
}

TEST_F(WebLife, WhatIsExportedIsRightInPrometheusEyes) {
  const auto promtool = world::find_program("promtool");
  if (!promtool) GTEST_SKIP() << "promtool is not installed (Debian's package prometheus has it)";
  post(alpha(), "/protect", {{"peer", "beta"}});
  const auto answer = fetch(alpha(), "/metrics");
  const auto file = world_->directory() / "metrics.txt";
  std::ofstream(file) << answer.substr(answer.find("\r\n\r\n") + 4);
  world::SpawnOptions check;
  check.argv = {"sh", "-c", promtool->string() + " check metrics <" + file.string()};
  const auto checked = world::run(check);
  EXPECT_TRUE(checked) << checked.error().message;
}

TEST_F(WebLife, APortInUseIsToldAndTheDaemonGoesOn) {
  ASSERT_TRUE(beta().daemon()->kill(SIGTERM));
  ASSERT_TRUE(beta().daemon()->wait(15s));
  const auto socket = beta().net().open_socket(AF_INET, SOCK_STREAM, 0);
  ASSERT_TRUE(socket);
  const auto address = loopback(web_port);
  ASSERT_EQ(::bind(socket->get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::listen(socket->get(), 1), 0);
  start_daemon(beta());
  const auto events = beta().api().get("/v1/events", 5s);
  ASSERT_TRUE(events) << events.error().message;
  EXPECT_THAT(events->dump(), HasSubstr("no page and no metrics: cannot listen on 127.0.0.1:7071: "
                                        "Address already in use"));
  EXPECT_EQ(post(alpha(), "/protect", {{"peer", "beta"}})["protected"], true);
}

TEST_F(WebLife, TheBrowserShowsAProtectedVmLive) {
  if (!Browser::program()) GTEST_SKIP() << "chromium is not installed";
  connect_client();
  post(alpha(), "/protect", {{"peer", "beta"}, {"policy", "hybrid"}});
  expect_answers("protected");
  auto started = Browser::start(world_->directory(), &alpha().net());
  ASSERT_TRUE(started) << started.error().message;
  auto& browser = **started;
  ASSERT_TRUE(browser.resize(1280, 560));
  ASSERT_TRUE(browser.open("http://127.0.0.1:7071/"));
  const auto text = [&](const std::string& selector) {
    const auto found = browser.evaluate("document.querySelector(`" + selector + "`)?.innerText");
    return found && found->is_string() ? found->get<std::string>()
                                       : "(there is no " + selector + ")";
  };
  EXPECT_TRUE(browser.becomes("document.querySelector('#connection').className === 'live'", 15s));
  EXPECT_EQ(text("h1"), "Tandem on alpha");
  EXPECT_EQ(text("[data-vm=demo] .state.good"), "protected by beta");
  EXPECT_EQ(text("[data-vm=demo] [data-fact=Policy]"), "hybrid");
  // A pair begins in colo mode under this policy. A checkpoint comes after 10 s at the latest; this
  // one at once.
  post(alpha(), "/policy", {{"policy", "periodic"}});
  EXPECT_TRUE(browser.becomes(
      "document.querySelector(`[data-vm=demo] [data-fact='Mode now']`).innerText === 'periodic'",
      15s));
  EXPECT_TRUE(browser.becomes("document.querySelector('.pause svg').dataset.points >= 20", 30s));
  for (const auto* plot : {"mode", "downtime", "bytes", "mismatches", "held"}) {
    EXPECT_TRUE(browser.becomes(
        "document.querySelector('." + std::string(plot) + " svg').dataset.points > 0", 15s))
        << plot;
  }
  EXPECT_THAT(text(".pause .value"), HasSubstr(" ms"));
  EXPECT_TRUE(browser.becomes(
      "document.querySelector('#events').innerText.includes('demo is protected by beta')", 15s));
  EXPECT_THAT(browser.problems(), IsEmpty());
  // The host of the secondary VM has a page, too.
  EXPECT_THAT(fetch(beta(), "/v1/status"), HasSubstr(R"("role":"secondary")"));

  const char* const folder = std::getenv("TANDEM_SCREENSHOTS");
  if (folder != nullptr) make_picture(browser, std::filesystem::path(folder) / "web.png");
}

}  // namespace
}  // namespace tandem::integration
