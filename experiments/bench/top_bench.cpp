// What `tandem top` costs: the processor time of the whole program on a terminal, with 50 VMs whose
// pairs take four checkpoints a second, and the most that a status can hold of each. The answers
// come from a server in this program; what asking costs tandemd, tandem-bench-watching measures.
//
// usage: top_bench [--enforce] [SECONDS]
// --enforce: exit status 1 if it takes more of a processor than docs/benchmarks.md promises.
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <thread>

#include "base/unique_fd.hpp"
#include "tests/unit/fake_daemon.hpp"
#include "tests/unit/top_fixture.hpp"

namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using tandem::control::LoggedPair;
using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

constexpr double promised_share = 0.006;
constexpr int vms = 50;
constexpr double checkpoints_per_second = 4;
constexpr std::size_t answer_max = 100;
/// The history that top asks for at first is not what it costs from then on.
constexpr auto warm_up = 4s;

/// The API of a host with many pairs that live.
class Host {
 public:
  Host() {
    for (int i = 0; i < vms; ++i) {
      pairs_.emplace("vm" + std::to_string(100 + i),
                     LoggedPair(tandem::controller::Policy::hybrid));
    }
  }
  [[nodiscard]] std::filesystem::path socket() const { return daemon_.socket(); }

 private:
  tandem::Result<json> answer(const tandem::api::Request& request) {
    live();
    constexpr std::string_view prefix = "/v1/vms/";
    if (request.path == "/v1/status") return tandem::test::answered(status());
    const auto slash = request.path.find('/', prefix.size());
    const auto found = pairs_.find(request.path.substr(prefix.size(), slash - prefix.size()));
    if (found == pairs_.end()) return tandem::Error{tandem::Errc::not_found, "no such VM"};
    const auto after = tandem::api::query_number(request, "after", 0, UINT64_MAX);
    if (!after) return after.error();
    auto observations = found->second.answer(*after, answer_max);
    const Seconds behind = std::chrono::system_clock::now() - found->second.time();
    for (auto& record : observations["records"]) {
      record["time"] = record["time"].get<double>() + behind.count();
    }
    return tandem::test::answered(std::move(observations));
  }
  /// Up to now, and three minutes before.
  void live() {
    const Seconds lived = Clock::now() - begin_ + 180s;
    for (; cycles_ < lived.count() * checkpoints_per_second; ++cycles_) {
      for (auto& [name, pair] : pairs_) pair.run_cycle(0.005, 0.245, 1'234'567);
    }
  }
  [[nodiscard]] json status() const {
    auto list = json::array();
    for (const auto& [name, pair] : pairs_) {
      auto vm = tandem::cli::test::top_vm(name, pair.log().decisions());
      for (int flow = 0; flow < 32; ++flow) {
        vm["compare"]["mismatch_flows"].push_back(
            {{"flow", "tcp 10.88.0.10:6379 > 10.88.0.1:" + std::to_string(40000 + flow)},
             {"count", 3},
             {"reason", "payload"},
             {"detail", "byte 1234 of the stream: 41 and 42"},
             {"time", 1.7e9 + 1.0 / 3}});
      }
      list.push_back(std::move(vm));
    }
    return tandem::cli::test::top_status(std::move(list));
  }

  std::map<std::string, LoggedPair> pairs_;
  Clock::time_point begin_ = Clock::now();
  double cycles_ = 0;
  tandem::test::FakeDaemon daemon_{
      [this](const tandem::api::Request& request) { return answer(request); }};
};

struct Measured {
  double share = 0;  ///< of a processor
  double bytes_per_s = 0;
};

/// `tandem top` on a terminal with so many rows, for so long.
tandem::Result<Measured> run_top(const Host& host, unsigned short rows, std::chrono::seconds time) {
  const auto program = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "tandem";
  std::string words[] = {program, "--socket", host.socket(), "top"};
  char* argv[] = {words[0].data(), words[1].data(), words[2].data(), words[3].data(), nullptr};
  winsize window{};
  window.ws_col = 120;
  window.ws_row = rows;
  int master = -1;
  const auto pid = ::forkpty(&master, nullptr, nullptr, &window);
  if (pid < 0) return tandem::system_error("no pseudoterminal", errno);
  if (pid == 0) {
    ::setenv("TERM", "xterm-256color", 1);
    ::setenv("LC_ALL", "C.UTF-8", 1);
    ::execv(argv[0], argv);
    ::_exit(127);
  }
  const tandem::UniqueFd terminal(master);
  std::size_t bytes = 0;
  const auto read_for = [&](std::chrono::milliseconds duration) {
    const auto end = Clock::now() + duration;
    for (auto left = duration; left > 0ms;
         left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now())) {
      pollfd ready{terminal.get(), POLLIN, 0};
      if (::poll(&ready, 1, static_cast<int>(left.count())) <= 0) continue;
      char piece[65536];
      const auto n = ::read(terminal.get(), piece, sizeof piece);
      if (n <= 0) return false;
      bytes += static_cast<std::size_t>(n);
    }
    return true;
  };
  clockid_t clock{};
  const auto cpu = [&] {
    timespec spent{};
    ::clock_gettime(clock, &spent);
    return static_cast<double>(spent.tv_sec) + static_cast<double>(spent.tv_nsec) * 1e-9;
  };
  const bool began = ::clock_getcpuclockid(pid, &clock) == 0 && read_for(warm_up);
  const auto before = cpu();
  bytes = 0;
  const auto begin = Clock::now();
  const bool lived = began && read_for(time);
  const Seconds passed = Clock::now() - begin;
  const Measured measured{(cpu() - before) / passed.count(),
                          static_cast<double>(bytes) / passed.count()};
  (void)!::write(terminal.get(), "q", 1);
  int status = 0;
  if (!lived) ::kill(pid, SIGKILL);
  ::waitpid(pid, &status, 0);
  if (!lived) return tandem::Error{tandem::Errc::closed, program.string() + " ended by itself"};
  return measured;
}

}  // namespace

int main(int argc, char** argv) {
  bool enforce = false;
  auto time = 20s;
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]) == "--enforce") {
      enforce = true;
    } else if (const auto seconds = std::atoi(argv[i]); seconds > 0 && seconds <= 3600) {
      time = std::chrono::seconds(seconds);
    } else {
      std::fprintf(stderr, "usage: top_bench [--enforce] [SECONDS]\n");
      return 2;
    }
  }
  const Host host;
  bool broken = false;
  std::printf("%d VMs, a look every 2 s, %d s each\n", vms, static_cast<int>(time.count()));
  std::printf("rows  VMs seen  of a processor  to the terminal\n");
  for (const unsigned short rows : {std::uint16_t{24}, std::uint16_t{104}}) {
    const auto measured = run_top(host, rows, time);
    if (!measured) {
      std::fprintf(stderr, "top_bench: %s\n", measured.error().message.c_str());
      return 1;
    }
    std::printf("%4d  %8d  %12.2f %%  %11.0f B/s\n", rows, std::min((rows - 4) / 2, vms),
                100 * measured->share, measured->bytes_per_s);
    broken = broken || measured->share > promised_share;
  }
  if (broken) std::printf("more than the promised %.1f %%\n", 100 * promised_share);
  return enforce && broken ? 1 : 0;
}
