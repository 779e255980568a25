// A headless Chromium that a test looks at a page with, spoken to over its DevTools protocol on two
// pipes: no port, no other program between them.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/base64.hpp"
#include "base/error.hpp"
#include "base/unique_fd.hpp"
#include "experiments/world/net_namespace.hpp"
#include "experiments/world/process.hpp"

namespace tandem::integration {

class Browser {
 public:
  static std::optional<std::filesystem::path> program() {
    if (auto found = world::find_program("chromium")) return found;
    return world::find_program("google-chrome");
  }

  /// In `net`, with everything it writes in `folder`.
  static Result<std::unique_ptr<Browser>> start(const std::filesystem::path& folder,
                                                const world::NetNamespace* net = nullptr) {
    const auto found = program();
    if (!found) return Error{Errc::not_found, "chromium is not installed"};
    int to[2];
    int from[2];
    if (::pipe2(to, O_CLOEXEC) != 0 || ::pipe2(from, O_CLOEXEC) != 0) {
      return system_error("cannot make a pipe", errno);
    }
    UniqueFd their_in(to[0]);
    UniqueFd our_out(to[1]);
    UniqueFd our_in(from[0]);
    UniqueFd their_out(from[1]);
    std::vector<std::string> words{found->string(),
                                   "--headless",
                                   "--no-sandbox",
                                   "--disable-gpu",
                                   "--disable-dev-shm-usage",
                                   "--remote-debugging-pipe",
                                   "--user-data-dir=" + (folder / "chromium").string(),
                                   "--no-first-run",
                                   "--no-proxy-server",
                                   "--disable-background-networking",
                                   "--disable-component-update",
                                   "--disable-extensions",
                                   "--disable-sync",
                                   "--disable-breakpad",
                                   "--hide-scrollbars",
                                   "--force-color-profile=srgb",
                                   "--lang=en-GB",
                                   "about:blank"};
    std::vector<char*> arguments;
    for (auto& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    const auto log = (folder / "chromium.log").string();
    const pid_t pid = ::fork();
    if (pid < 0) return system_error("cannot fork", errno);
    if (pid == 0) {
      ::setpgid(0, 0);
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (net != nullptr && !net->enter()) ::_exit(126);
      const int output = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
      ::dup2(output, 1);
      ::dup2(output, 2);
      // 3 and 4 may be these very descriptors.
      const int in = ::fcntl(their_in.get(), F_DUPFD, 10);
      const int out = ::fcntl(their_out.get(), F_DUPFD, 10);
      ::dup2(in, 3);
      ::dup2(out, 4);
      // Asio's sockets, a server's port among them, would stay open in the browser.
      ::syscall(SYS_close_range, 5U, ~0U, 0U);
      ::execv(arguments[0], arguments.data());
      ::_exit(127);
    }
    std::unique_ptr<Browser> browser(new Browser(pid, std::move(our_in), std::move(our_out)));
    const auto target = browser->call("Target.createTarget", {{"url", "about:blank"}});
    if (!target) return with_context("chromium (see " + log + ")", target.error());
    const auto attached = browser->call("Target.attachToTarget",
                                        {{"targetId", (*target)["targetId"]}, {"flatten", true}});
    if (!attached) return attached.error();
    browser->session_ = (*attached)["sessionId"];
    for (const auto* domain : {"Page.enable", "Runtime.enable", "Log.enable", "Network.enable"}) {
      const auto enabled = browser->call(domain, nlohmann::json::object());
      if (!enabled) return enabled.error();
    }
    return browser;
  }

  ~Browser() {
    ::kill(-pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  Browser(const Browser&) = delete;
  Browser& operator=(const Browser&) = delete;

  Result<void> open(const std::string& url) {
    const auto opened = call("Page.navigate", {{"url", url}});
    if (!opened) return opened.error();
    if (opened->contains("errorText")) {
      return Error{Errc::unavailable, url + ": " + (*opened)["errorText"].get<std::string>()};
    }
    return {};
  }

  /// The value of an expression, awaited if it is a promise.
  Result<nlohmann::json> evaluate(const std::string& expression) {
    const auto done =
        call("Runtime.evaluate",
             {{"expression", expression}, {"awaitPromise", true}, {"returnByValue", true}});
    if (!done) return done.error();
    if (done->contains("exceptionDetails")) {
      return Error{Errc::invalid_input, expression + ": " + (*done)["exceptionDetails"].dump()};
    }
    return {boost::system::in_place_value, (*done)["result"].value("value", nlohmann::json())};
  }

  /// Whether the expression becomes true; looked at when the page changes, and ten times a second.
  bool becomes(const std::string& expression, std::chrono::milliseconds limit) {
    const auto waiting =
        "new Promise((done) => { const until = Date.now() + " + std::to_string(limit.count()) +
        "; const look = () => { let yes = false; try { yes = Boolean(" + expression +
        "); } catch {} if (yes || Date.now() > until) done(yes); "
        "else setTimeout(look, 100); }; look(); })";
    const auto became = evaluate(waiting);
    return became && became->is_boolean() && became->get<bool>();
  }

  /// Errors and warnings that the page, or the browser about it, has told since the last call.
  std::vector<std::string> problems() {
    (void)evaluate("0");  // what was told before is here now
    return std::exchange(problems_, {});
  }

  Result<void> resize(int width, int height, bool is_phone = false) {
    const auto done = call(
        "Emulation.setDeviceMetricsOverride",
        {{"width", width}, {"height", height}, {"deviceScaleFactor", 1}, {"mobile", is_phone}});
    return done ? Result<void>() : done.error();
  }

  Result<void> prefer(const std::string& scheme) {
    const auto done = call("Emulation.setEmulatedMedia",
                           {{"features", {{{"name", "prefers-color-scheme"}, {"value", scheme}}}}});
    return done ? Result<void>() : done.error();
  }

  /// What is to be seen, as PNG.
  Result<std::string> screenshot() {
    const auto shot = call("Page.captureScreenshot", {{"format", "png"}});
    if (!shot) return shot.error();
    const auto bytes = decode_base64((*shot)["data"].get<std::string>());
    if (!bytes) return bytes.error();
    return std::string(reinterpret_cast<const char*>(bytes->data()), bytes->size());
  }

 private:
  static constexpr std::chrono::seconds call_limit{60};

  Browser(pid_t pid, UniqueFd in, UniqueFd out)
      : pid_(pid), in_(std::move(in)), out_(std::move(out)) {}

  Result<nlohmann::json> call(const std::string& method, nlohmann::json parameters) {
    nlohmann::json message{
        {"id", ++last_id_}, {"method", method}, {"params", std::move(parameters)}};
    if (!session_.empty()) message["sessionId"] = session_;
    const auto text = message.dump() + '\0';
    for (std::size_t sent = 0; sent < text.size();) {
      const auto n = ::write(out_.get(), text.data() + sent, text.size() - sent);
      if (n <= 0) return system_error("chromium does not listen", errno);
      sent += static_cast<std::size_t>(n);
    }
    const auto deadline = std::chrono::steady_clock::now() + call_limit;
    for (;;) {
      const auto answer = receive(deadline);
      if (!answer) return with_context(method, answer.error());
      if (answer->value("id", 0) == last_id_) {
        if (answer->contains("error")) {
          return Error{Errc::protocol, method + ": " + (*answer)["error"].dump()};
        }
        return {boost::system::in_place_value, (*answer)["result"]};
      }
      note(*answer);
    }
  }

  void note(const nlohmann::json& event) {
    const auto method = event.value("method", "");
    const auto& about = event.value("params", nlohmann::json::object());
    if (method == "Runtime.exceptionThrown") problems_.push_back(about.dump());
    if (method == "Runtime.consoleAPICalled" &&
        (about["type"] == "error" || about["type"] == "warning" || about["type"] == "assert")) {
      problems_.push_back(about["args"].dump());
    }
    if (method == "Log.entryAdded" &&
        (about["entry"]["level"] == "error" || about["entry"]["level"] == "warning")) {
      problems_.push_back(about["entry"].dump());
    }
  }

  Result<nlohmann::json> receive(std::chrono::steady_clock::time_point deadline) {
    for (;;) {
      const auto end = received_.find('\0');
      if (end != std::string::npos) {
        auto json = nlohmann::json::parse(received_.substr(0, end), nullptr, false);
        received_.erase(0, end + 1);
        if (json.is_discarded()) return Error{Errc::protocol, "chromium does not speak JSON"};
        return {boost::system::in_place_value, std::move(json)};
      }
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
          deadline - std::chrono::steady_clock::now());
      pollfd waiting{in_.get(), POLLIN, 0};
      if (left.count() <= 0 || ::poll(&waiting, 1, static_cast<int>(left.count())) == 0) {
        return Error{Errc::timed_out, "chromium does not answer"};
      }
      std::string piece(1u << 16, '\0');
      const auto n = ::read(in_.get(), piece.data(), piece.size());
      if (n <= 0) return Error{Errc::closed, "chromium has ended"};
      received_.append(piece, 0, static_cast<std::size_t>(n));
    }
  }

  pid_t pid_;
  UniqueFd in_, out_;
  std::string session_;
  int last_id_ = 0;
  std::string received_;
  std::vector<std::string> problems_;
};

}  // namespace tandem::integration
