#include "engine/cli/top_command.hpp"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <condition_variable>
#include <cstdlib>
#include <limits>
#include <mutex>
#include <optional>
#include <thread>

#include "base/unique_fd.hpp"
#include "engine/cli/format.hpp"
#include "engine/cli/top_screen.hpp"

namespace tandem::cli {
namespace {

using nlohmann::json;

/// A daemon that hangs is killed by its guardian long before.
constexpr std::chrono::milliseconds top_answer_limit{2000};
/// To questions about one VM's backlog, in one look.
constexpr int answers_max = 10;

double now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

/// Asks the daemon, and keeps what is known. Thread-safe.
class Feed {
 public:
  Feed(const Connection& connection, const TopOptions& options)
      : connection_(connection), model_(options.vms) {}

  /// Whose observations are wanted; without, all.
  void watch(std::vector<std::string> visible) {
    const std::scoped_lock lock(mutex_);
    visible_ = std::move(visible);
  }

  /// One look at everything.
  Result<void> look() {
    const auto looked = ask();
    const std::scoped_lock lock(mutex_);
    if (!looked) model_.miss(looked.error().message);
    return looked;
  }

  /// What is known, for as long as `use` lasts.
  template <class Use>
  auto with_model(Use use) const {
    const std::scoped_lock lock(mutex_);
    return use(model_);
  }

 private:
  Result<void> ask() {
    const auto status = get(connection_, "/v1/status", top_answer_limit);
    if (!status) return status.error();
    const auto questions = [&] {
      const std::scoped_lock lock(mutex_);
      model_.look(*status, now());
      return model_.questions(visible_ ? &*visible_ : nullptr);
    }();
    for (auto question : questions) {
      for (int i = 0; i < answers_max; ++i) {
        const auto answer =
            get(connection_,
                vm_path(question.vm) + "/observations?after=" + std::to_string(question.after),
                top_answer_limit);
        // The pair may have ended since the status.
        if (!answer && answer.error().code == Errc::conflict) break;
        if (!answer && answer.error().code == Errc::not_found) break;
        if (!answer) return answer.error();
        const std::scoped_lock lock(mutex_);
        if (!model_.take(question, *answer)) break;
        question.after = number_at(*answer, "next", question.after);
      }
    }
    return {};
  }

  const Connection& connection_;
  mutable std::mutex mutex_;
  TopModel model_;
  std::optional<std::vector<std::string>> visible_;
};

/// Looks again and again, on a thread of its own, so that no silence of the daemon's is felt at the
/// keyboard.
class Looker {
 public:
  Looker(Feed& feed, std::chrono::milliseconds interval)
      : looked_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
        thread_(
            [this, &feed, interval](const std::stop_token& stop) { run(feed, interval, stop); }) {}
  ~Looker() {
    thread_.request_stop();
    wake();
  }
  Looker(const Looker&) = delete;
  Looker& operator=(const Looker&) = delete;

  /// Readable when there is something new.
  [[nodiscard]] int fd() const noexcept { return looked_.get(); }
  void clear() const {
    std::uint64_t count = 0;
    (void)!::read(looked_.get(), &count, sizeof count);
  }
  /// Looks now.
  void wake() {
    {
      const std::scoped_lock lock(mutex_);
      awake_ = true;
    }
    changed_.notify_one();
  }

 private:
  void run(Feed& feed, std::chrono::milliseconds interval, const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, interval, [&] { return awake_; });
      awake_ = false;
      lock.unlock();
      if (stop.stop_requested()) return;
      (void)feed.look();
      constexpr std::uint64_t one = 1;
      (void)!::write(looked_.get(), &one, sizeof one);
    }
  }

  UniqueFd looked_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool awake_ = false;
  std::jthread thread_;  ///< last: it uses the others
};

/// Signals that end or change what is shown, to be read in turn instead of coming in between.
class Signals {
 public:
  Signals() {
    sigset_t set;
    sigemptyset(&set);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH, SIGTSTP}) {
      sigaddset(&set, signal);
    }
    ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
    fd_.reset(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  }
  [[nodiscard]] int fd() const noexcept { return fd_.get(); }
  /// 0: none.
  [[nodiscard]] int next() const {
    signalfd_siginfo info{};
    return ::read(fd_.get(), &info, sizeof info) == sizeof info ? static_cast<int>(info.ssi_signo)
                                                                : 0;
  }

 private:
  UniqueFd fd_;
};

class Top {
 public:
  Top(const Connection& connection, const TopOptions& options)
      : options_(options), json_(connection.json), feed_(connection, options) {
    view_.sort = options.sort;
    view_.utf8 = terminal_is_utf8();
  }

  int run() {
    const bool live = !options_.once && !json_;
    // Before it is known what fits, only the status.
    if (live) feed_.watch({});
    const auto looked = feed_.look();
    if (!looked) return fail(looked.error(), json_);
    const auto missing = feed_.with_model([](const TopModel& model) {
      return model.missing().empty()
                 ? ""
                 : "there is no VM \"" + model.missing() + "\" on " + model.host();
    });
    if (!missing.empty()) return fail({Errc::not_found, missing}, json_);
    return live ? watch() : print();
  }

 private:
  /// Rates take two looks.
  int print() {
    end_on_interrupt();
    view_.all = true;
    for (;;) {
      std::this_thread::sleep_for(options_.interval);
      const auto looked = feed_.look();
      if (!looked && options_.once) return fail(looked.error(), json_);
      view_.size = stdout_is_terminal() ? terminal_size() : size_of_environment();
      feed_.with_model([&](const TopModel& model) {
        if (json_) {
          write_out(dump(top_json(model, view_, now()), options_.once ? 2 : -1) + "\n");
        } else {
          print_lines(to_lines(render_top(model, view_, now())));
        }
      });
      if (options_.once) return exit_done;
    }
  }

  static TerminalSize size_of_environment() {
    TerminalSize size;
    const char* columns = std::getenv("COLUMNS");
    const auto wanted = columns != nullptr ? std::strtoul(columns, nullptr, 10) : 0;
    if (wanted > 0 && wanted < 10'000) size.columns = wanted;
    return size;
  }

  int watch() {
    const Signals signals;
    auto screen = TopScreen::open();
    if (!screen) return fail(screen.error(), false);
    Looker looker(feed_, options_.interval);
    draw(**screen);
    looker.wake();  // now it is known what fits
    for (;;) {
      std::array<pollfd, 3> ready{
          {{STDIN_FILENO, POLLIN, 0}, {signals.fd(), POLLIN, 0}, {looker.fd(), POLLIN, 0}}};
      if (::poll(ready.data(), ready.size(), -1) < 0 && errno != EINTR) break;
      if ((ready[0].revents & (POLLHUP | POLLERR | POLLNVAL)) != 0) break;
      if (!heed_signals(signals, **screen) || !heed_keys(**screen)) break;
      looker.clear();
      if (draw(**screen)) looker.wake();
    }
    // The terminal first: the daemon may be slow to answer for the last time.
    screen->reset();
    return exit_done;
  }

  /// True if other VMs are to be seen now.
  bool draw(TopScreen& screen) {
    view_.size = terminal_size();
    auto [frame, visible] = feed_.with_model([&](const TopModel& model) {
      view_.first = std::min(view_.first, last_first(model, view_));
      return std::pair(render_top(model, view_, now()), visible_vms(model, view_));
    });
    screen.paint(frame);
    if (visible == visible_) return false;
    visible_ = visible;
    feed_.watch(std::move(visible));
    return true;
  }

  /// False: the end.
  static bool heed_signals(const Signals& signals, TopScreen& screen) {
    while (const int signal = signals.next()) {
      if (signal == SIGWINCH) {
        screen.resize();
      } else if (signal == SIGTSTP) {
        screen.suspend();
        screen.resize();
      } else {
        return false;
      }
    }
    return true;
  }

  /// False: the end.
  bool heed_keys(TopScreen& screen) {
    using Key = TopScreen::Key;
    const auto page = std::max<std::size_t>(page_length(view_), 1);
    for (;;) {
      switch (screen.key()) {
        case Key::none:
          return true;
        case Key::quit:
          return false;
        case Key::up:
          view_.first -= std::min<std::size_t>(view_.first, 1);
          break;
        case Key::down:
          ++view_.first;
          break;
        case Key::page_up:
          view_.first -= std::min(view_.first, page);
          break;
        case Key::page_down:
          view_.first += page;
          break;
        case Key::home:
          view_.first = 0;
          break;
        case Key::end:
          view_.first = std::numeric_limits<std::size_t>::max() / 2;
          break;
        case Key::next:
          sort_by_neighbour(1);
          break;
        case Key::previous:
          sort_by_neighbour(top_sort_columns.size() - 1);
          break;
        case Key::reverse:
          view_.reversed = !view_.reversed;
          break;
      }
    }
  }

  void sort_by_neighbour(std::size_t step) {
    const auto at = static_cast<std::size_t>(view_.sort) + step;
    view_.sort = top_sort_columns[at % top_sort_columns.size()];
  }

  const TopOptions& options_;
  bool json_;
  TopView view_;
  std::vector<std::string> visible_;
  Feed feed_;
};

}  // namespace

int show_top(const Connection& connection, const TopOptions& options) {
  return Top(connection, options).run();
}

}  // namespace tandem::cli
