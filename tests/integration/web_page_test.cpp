// The page in a real browser, against the real web server with scripted answers: every way in which
// a VM can stand, many of them, a daemon that goes and comes back.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <cmath>
#include <mutex>
#include <set>
#include <thread>

#include "engine/web/site.hpp"
#include "tests/integration/browser.hpp"
#include "tests/unit/temporary_folder.hpp"

namespace tandem::integration {
namespace {

using namespace std::chrono_literals;
using asio::ip::tcp;
using nlohmann::json;
using testing::HasSubstr;
using testing::IsEmpty;

double now_s() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

/// A VM of an answer, as docs/api.md has it; what the page does not look at is left out.
json vm(const std::string& name, const std::string& role, const std::string& state) {
  const bool in_pair = role == "primary" || role == "secondary";
  const bool is_protected = state == "protected";
  json made{{"name", name},
            {"role", role},
            {"state", state},
            {"protected", is_protected},
            {"generation", in_pair ? 1 : 0},
            {"peer", in_pair ? json("beta") : json()},
            {"policy", "hybrid"},
            {"mode", is_protected ? json("colo") : json()},
            {"controller", nullptr},
            {"checkpoints", {{"last", 12}, {"committed", 11}, {"loaded", 10}, {"in_flight", 1}}},
            {"gate", {{"held_frames", 2}, {"held_bytes", 4096}}},
            {"failover", nullptr},
            {"last_error", nullptr}};
  if (is_protected && role == "primary") {
    made["controller"] = {{"state", "colo"},  {"mode", "colo"},  {"due_ms", 10000},
                          {"reason", "stay"}, {"decisions", 40}, {"mode_changes", 1}};
  }
  return made;
}

/// `count` cycles up to now: the first half in periodic mode, each 2.5 s long.
json observations(int count, std::uint64_t after) {
  auto records = json::array();
  for (int i = static_cast<int>(after); i < count; ++i) {
    const auto* mode = i < count / 2 ? "periodic" : "colo";
    records.push_back({{"seq", i + 1},
                       {"time", now_s() - 2.5 * (count - i)},
                       {"epoch", i + 1},
                       {"observation",
                        {{"time_s", i},
                         {"mode", mode},
                         {"pause_s", 0.004},
                         {"uptime_s", 2.496},
                         {"bytes", 3 << 20},
                         {"mismatches", i % 10 == 0 ? 1 : 0}}},
                       {"decision", {{"mode", mode}, {"due_s", 10}, {"reason", "stay"}}},
                       {"figures",
                        {{"downtime_ratio", 0.016},
                         {"downtime_ratio_bound", 0.1},
                         {"checkpoints_per_second", 4.0}}}});
  }
  return {{"vm", ""},
          {"first", 1},
          {"next", std::max<std::uint64_t>(after, count)},
          {"records", std::move(records)}};
}

/// Answers what a test wants it to, on a thread of its own.
class ScriptedDaemon {
 public:
  void start(std::uint16_t port = 0) {
    web::Sources sources;
    sources.metrics = []() -> Task<std::string> { co_return ""; };
    sources.api = [this](api::Request request) -> Task<Result<json>> {
      co_return Result<json>(boost::system::in_place_value, answer(request));
    };
    context_ = std::make_unique<asio::io_context>(1);
    const tcp::endpoint address(asio::ip::address_v4::loopback(), port);
    auto server = api::WebServer::listen(
        context_->get_executor(), address, {},
        [sources](api::Request request) { return web::answer(std::move(request), sources); });
    ASSERT_TRUE(server) << server.error().message;
    server_ = *server;
    port_ = server_->address().port();
    asio::co_spawn(*context_, server_->serve(), asio::detached);
    thread_ = std::thread([this] { context_->run(); });
  }
  void stop() {
    if (!thread_.joinable()) return;
    context_->stop();
    thread_.join();
    server_.reset();
    context_.reset();
  }
  ~ScriptedDaemon() { stop(); }

  [[nodiscard]] std::uint16_t port() const { return port_; }
  void vms(std::vector<json> vms) {
    const std::scoped_lock lock(mutex_);
    vms_ = json(std::move(vms));
  }
  void event(const std::string& type, const std::string& message) {
    const std::scoped_lock lock(mutex_);
    events_.push_back({{"seq", events_.size() + 1},
                       {"time", now_s()},
                       {"vm", "web"},
                       {"type", type},
                       {"message", message},
                       {"data", json::object()}});
  }
  void new_worker() {
    const std::scoped_lock lock(mutex_);
    ++worker_;
    events_ = json::array();
  }
  /// The VMs whose observations were asked for.
  std::set<std::string> observed() {
    const std::scoped_lock lock(mutex_);
    return observed_;
  }

 private:
  json answer(const api::Request& request) {
    const std::scoped_lock lock(mutex_);
    const auto after = *api::query_number(request, "after", 0, UINT64_MAX);
    if (request.path == "/v1/status") {
      return {{"host", "alpha"}, {"version", "0.1.0"}, {"worker_pid", worker_}, {"vms", vms_}};
    }
    if (request.path == "/v1/events") {
      auto events = json::array();
      for (const auto& event : events_) {
        if (event["seq"] > after) events.push_back(event);
      }
      return {{"events", events}, {"next", events_.size()}};
    }
    const auto rest = request.path.substr(std::string("/v1/vms/").size());
    observed_.insert(rest.substr(0, rest.find('/')));
    return observations(40, after);
  }

  std::unique_ptr<asio::io_context> context_;
  std::shared_ptr<api::WebServer> server_;
  std::thread thread_;
  std::uint16_t port_ = 0;
  std::mutex mutex_;
  json vms_ = json::array();
  json events_ = json::array();
  int worker_ = 100;
  std::set<std::string> observed_;
};

class WebPage : public testing::Test {
 protected:
  void SetUp() override {
    if (!Browser::program()) GTEST_SKIP() << "chromium is not installed";
    daemon_.start();
    auto browser = Browser::start(folder_.path());
    ASSERT_TRUE(browser) << browser.error().message;
    browser_ = std::move(*browser);
    ASSERT_TRUE(browser_->resize(1280, 900));
  }

  void open(std::vector<json> vms) {
    daemon_.vms(std::move(vms));
    const auto opened = browser_->open("http://127.0.0.1:" + std::to_string(daemon_.port()) + "/");
    ASSERT_TRUE(opened) << opened.error().message;
    EXPECT_TRUE(becomes("document.querySelector('#connection').className === 'live'"));
  }
  bool becomes(const std::string& expression, std::chrono::milliseconds limit = 15s) {
    return browser_->becomes(expression, limit);
  }
  std::string text(const std::string& selector) {
    const auto found = browser_->evaluate("document.querySelector(`" + selector + "`)?.innerText");
    if (!found || !found->is_string()) return "(there is no " + selector + ")";
    return *found;
  }
  static std::string of(const std::string& name) { return "[data-vm=\"" + name + "\"] "; }

  test::TemporaryFolder folder_;
  ScriptedDaemon daemon_;
  std::unique_ptr<Browser> browser_;
};

TEST_F(WebPage, ShowsHowEachVmStands) {
  auto lost = vm("lost", "solo", "running");
  lost["failover"] = {{"total_ms", 134.0}, {"reason", "the link to it (rep0) is down"}};
  lost["last_error"] = "beta is lost";
  open({vm("web", "primary", "protected"), vm("new", "primary", "synchronising"),
        vm("copy", "secondary", "protected"), lost, vm("plain", "none", "running"),
        vm("off", "none", "stopped")});
  EXPECT_EQ(text("h1"), "Tandem on alpha");
  EXPECT_EQ(text("#summary"),
            "6 VMs, 1 protected, 1 copies of a peer’s, 3 not protected, 1 stopped");
  EXPECT_EQ(text(of("web") + ".state.good"), "protected by beta");
  EXPECT_EQ(text(of("new") + ".state.warn"), "synchronising (beta)");
  EXPECT_EQ(text(of("copy") + ".state.good"), "copy of beta's VM");
  EXPECT_EQ(text(of("lost") + ".state.bad"), "goes on alone, unprotected");
  EXPECT_EQ(text(of("plain") + ".state.warn"), "runs unprotected");
  EXPECT_EQ(text(of("off") + ".state.idle"), "does not run");
  EXPECT_EQ(text(of("web") + "[data-fact=Role]"), "primary");
  EXPECT_EQ(text(of("web") + "[data-fact=Peer]"), "beta");
  EXPECT_EQ(text(of("web") + "[data-fact=Policy]"), "hybrid");
  EXPECT_EQ(text(of("web") + "[data-fact='Mode now']"), "colo");
  EXPECT_EQ(text(of("web") + "[data-fact=Checkpoints]"), "12, 11 committed, 10 loaded");
  EXPECT_EQ(text(of("lost") + "[data-fact='Last failover']"),
            "134 ms: the link to it (rep0) is down");
  EXPECT_THAT(text(of("copy") + ".plots"), HasSubstr("on beta"));
  EXPECT_THAT(browser_->problems(), IsEmpty());
}

TEST_F(WebPage, PlotsTheLastMinutes) {
  open({vm("web", "primary", "protected")});
  EXPECT_TRUE(becomes("document.querySelector('.pause svg').dataset.points === '40'"));
  for (const auto* plot : {"downtime", "pause", "bytes", "mismatches"}) {
    EXPECT_TRUE(
        becomes("document.querySelector('." + std::string(plot) + " svg').dataset.points === '40'"))
        << plot;
    EXPECT_TRUE(
        becomes("document.querySelector('." + std::string(plot) + " .line').getTotalLength() > 10"))
        << plot;
  }
  EXPECT_EQ(text(".pause .value"), "4.0 ms");
  EXPECT_EQ(text(".downtime .value"), "0.016 · bound 0.1");
  EXPECT_TRUE(becomes("document.querySelector('.downtime .bound').getTotalLength() > 10"));
  EXPECT_EQ(text(".bytes .value"), "3.0 MiB");
  EXPECT_EQ(text(".mode .value"), "colo");
  EXPECT_TRUE(becomes("document.querySelector('.mode svg').dataset.points === '2'")) << "spans";
  EXPECT_TRUE(becomes("document.querySelector('.held svg').dataset.points >= 2"));
  EXPECT_EQ(text(".held .value"), "4.0 KiB");
  EXPECT_THAT(browser_->problems(), IsEmpty());
}

TEST_F(WebPage, APlotIsReadByPointingAtIt) {
  open({vm("web", "primary", "protected")});
  ASSERT_TRUE(becomes("document.querySelector('.mode svg').dataset.points === '2'"));
  const auto pointed = browser_->evaluate(R"((() => {
    const svg = document.querySelector('.mode svg');
    const box = svg.getBoundingClientRect();
    svg.dispatchEvent(new PointerEvent('pointermove', {clientX: box.left + box.width * 0.75, clientY: box.top + 5}));
    return document.querySelector('.mode .value').innerText;
  })())");
  ASSERT_TRUE(pointed) << pointed.error().message;
  EXPECT_THAT(pointed->get<std::string>(), HasSubstr("periodic · "));
}

TEST_F(WebPage, AsksOnlyAboutWhatIsSeen) {
  std::vector<json> vms;
  for (int i = 10; i < 60; ++i) vms.push_back(vm("vm" + std::to_string(i), "primary", "protected"));
  open(vms);
  EXPECT_TRUE(becomes("document.querySelector('.pause svg').dataset.points === '40'"));
  const auto first = daemon_.observed();
  EXPECT_TRUE(first.contains("vm10"));
  EXPECT_LT(first.size(), 15u) << "of 50, some 6 fit on the screen";
  ASSERT_TRUE(browser_->evaluate("document.querySelector('[data-vm=vm59]').scrollIntoView()"));
  EXPECT_TRUE(
      becomes("document.querySelector('[data-vm=vm59] .pause svg').dataset.points === '40'"));
  EXPECT_FALSE(daemon_.observed().contains("vm35")) << "what was passed over is not asked about";
  EXPECT_THAT(browser_->problems(), IsEmpty());
}

TEST_F(WebPage, SaysWhenTheDaemonIsGoneAndGoesOnWhenItIsBack) {
  open({vm("web", "primary", "protected")});
  daemon_.stop();
  EXPECT_TRUE(becomes("document.querySelector('#connection').className === 'silent'"));
  EXPECT_THAT(text("#connection"), HasSubstr("tandemd does not answer; asking again in"));
  EXPECT_TRUE(becomes("document.querySelector('#connection').innerText.endsWith('in 4 s')"))
      << "the third time it waits longer";
  EXPECT_EQ(text(of("web") + "h3"), "web") << "what was known stays";
  daemon_.new_worker();
  daemon_.event("daemon-recovered", "the VM goes on");
  daemon_.start(daemon_.port());
  EXPECT_TRUE(becomes("document.querySelector('#connection').className === 'live'"));
  EXPECT_TRUE(becomes("document.querySelector('#events').innerText.includes('daemon-recovered')"));
}

TEST_F(WebPage, VmsComeAndGo) {
  open({});
  EXPECT_TRUE(becomes("!document.querySelector('#no-vms').hidden"));
  daemon_.vms({vm("web", "none", "running")});
  EXPECT_TRUE(becomes("document.querySelector('[data-vm=web]')"));
  daemon_.vms({vm("db", "none", "running")});
  EXPECT_TRUE(becomes(
      "document.querySelector('[data-vm=db]') && !document.querySelector('[data-vm=web]')"));
  EXPECT_THAT(browser_->problems(), IsEmpty());
}

TEST_F(WebPage, ShowsEventsNewestFirstAndFrequentOnesOnDemand) {
  daemon_.event("protecting", "synchronising with beta");
  daemon_.event("mismatch", "payload: tcp a > b");
  daemon_.event("protected", "web is <b>protected</b> by beta");
  open({vm("web", "primary", "protected")});
  const auto shown =
      "[...document.querySelectorAll('#events li:not([hidden]) .type')].map((e) => "
      "e.innerText).join()";
  EXPECT_TRUE(becomes(std::string(shown) + " === 'protected,protecting'"));
  EXPECT_EQ(text("#events .message"), "web is <b>protected</b> by beta")
      << "it is text, and no HTML";
  ASSERT_TRUE(browser_->evaluate("document.querySelector('#all-events').click()"));
  EXPECT_TRUE(becomes(std::string(shown) + " === 'protected,mismatch,protecting'"));
  ASSERT_TRUE(browser_->evaluate("document.querySelector('#all-events').click()"));
  for (int i = 0; i < 250; ++i) daemon_.event("mismatch", "payload: tcp a > b");
  EXPECT_TRUE(becomes("document.querySelectorAll('#events li').length === 202"));
  EXPECT_TRUE(becomes(std::string(shown) + " === 'protected,protecting'"))
      << "what comes often drives out nothing else";
  daemon_.new_worker();
  daemon_.event("daemon-recovered", "the VM goes on");
  EXPECT_TRUE(becomes(std::string(shown) + " === 'daemon-recovered'"))
      << "another worker counts anew";
  EXPECT_THAT(browser_->problems(), IsEmpty());
}

TEST_F(WebPage, FitsOnAPhone) {
  ASSERT_TRUE(browser_->resize(360, 740, true));
  auto web =
      vm("web-frontend-of-the-shop-with-a-name-as-long-as-one-may-ever-be", "primary", "protected");
  web["last_error"] = "connection_to_the_peer_10.77.0.2:7070_ended_without_a_farewell_and_so_on";
  daemon_.event("refused",
                "a_message_without_any_blank_that_is_much_longer_than_such_a_screen_is_wide");
  open({web});
  EXPECT_TRUE(becomes("document.querySelector('.pause svg')?.dataset.points === '40'"));
  EXPECT_TRUE(becomes("document.querySelector('#events li')"));
  const auto width = browser_->evaluate("document.documentElement.scrollWidth");
  ASSERT_TRUE(width) << width.error().message;
  EXPECT_LE(*width, 360);
  EXPECT_THAT(browser_->problems(), IsEmpty());
}

TEST_F(WebPage, IsReadableInLightAndDarkAndForScreenReaders) {
  open({vm("web", "primary", "protected"), vm("plain", "none", "running")});
  EXPECT_TRUE(becomes("document.querySelector('.pause svg').dataset.points === '40'"));
  // WCAG's contrast of each colour that text has against what is behind it.
  const std::string lowest = R"((() => {
    const style = getComputedStyle(document.documentElement);
    const light = (name) => {
      const hex = style.getPropertyValue(name).trim();
      const part = (i) => {
        const c = parseInt(hex.slice(i, i + 2), 16) / 255;
        return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
      };
      return 0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5);
    };
    const contrast = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const words = ['--text', '--muted', '--good', '--warn', '--bad', '--idle', '--periodic', '--colo', '--line', '--bound'];
    return Math.min(...words.flatMap((word) => ['--card', '--ground'].map((behind) => contrast(light(word), light(behind)))));
  })())";
  std::set<std::string> grounds;
  for (const auto* scheme : {"light", "dark"}) {
    ASSERT_TRUE(browser_->prefer(scheme));
    const auto contrast = browser_->evaluate(lowest);
    ASSERT_TRUE(contrast) << contrast.error().message;
    EXPECT_GE(contrast->get<double>(), 4.5) << scheme;
    grounds.insert(
        browser_->evaluate("getComputedStyle(document.body).backgroundColor")->get<std::string>());
  }
  EXPECT_EQ(grounds.size(), 2u);
  EXPECT_TRUE(becomes(
      "[...document.querySelectorAll('svg')].every((svg) => svg.getAttribute('role') === 'img')"));
  const auto label =
      browser_->evaluate("document.querySelector('.pause svg').getAttribute('aria-label')");
  EXPECT_EQ(*label, "Pause, last 5 minutes: newest 4.0 ms, largest 4.0 ms");
  EXPECT_TRUE(becomes("document.querySelector('#connection').getAttribute('role') === 'status'"));
  EXPECT_TRUE(becomes("document.documentElement.lang === 'en'"));
  EXPECT_THAT(browser_->problems(), IsEmpty());
}

TEST_F(WebPage, AsksNothingWhileNobodyLooks) {
  open({vm("web", "primary", "protected")});
  const auto hide = [](bool hidden) {
    return std::string(
               "Object.defineProperty(document, 'hidden', {configurable: true, get: () => ") +
           (hidden ? "true" : "false") +
           "}); document.dispatchEvent(new Event('visibilitychange'));";
  };
  const std::string asked =
      "performance.getEntriesByType('resource').filter((e) => e.name.includes('/v1/')).length";
  ASSERT_TRUE(browser_->evaluate(hide(true)));
  // It would ask once a second.
  const auto still =
      browser_->evaluate("(async () => { for (let i = 0; i < 10; ++i) { const before = " + asked +
                         "; await new Promise((done) => setTimeout(done, 2500)); if (" + asked +
                         " === before) return before; } return null; })()");
  ASSERT_TRUE(still) << still.error().message;
  ASSERT_TRUE(still->is_number()) << "it asks on and on";
  ASSERT_TRUE(browser_->evaluate(hide(false)));
  EXPECT_TRUE(becomes(asked + " > " + still->dump())) << "and goes on when somebody looks";
}

}  // namespace
}  // namespace tandem::integration
