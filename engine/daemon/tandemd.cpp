// tandemd: Tandem's daemon, one a host. See docs/man/tandemd.8.
#include <signal.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/prctl.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "engine/daemon/config.hpp"
#include "engine/daemon/daemon.hpp"
#include "engine/daemon/guardian.hpp"

namespace {

constexpr int exit_bad_configuration = 2;

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Tandem's daemon: protects virtual machines of this host, and those of its peers.");
  std::string config_path = "/etc/tandem/tandemd.toml";
  std::string log_level = "info";
  bool check = false;
  int life_sign_fd = -1;
  app.add_option("--config", config_path, "Configuration file")->capture_default_str();
  app.add_option("--log-level", log_level, "trace, debug, info, warn or error")
      ->check(CLI::IsMember({"trace", "debug", "info", "warn", "error"}))
      ->capture_default_str();
  app.add_flag("--check", check, "Read the configuration, say whether it is right, and exit");
  app.set_version_flag("--version", "tandemd " TANDEM_VERSION);
  app.add_option("--life-sign", life_sign_fd)->group("");  // the guardian's, see guardian.hpp
  CLI11_PARSE(app, argc, argv);

  spdlog::set_default_logger(spdlog::stderr_logger_mt("tandemd"));
  spdlog::set_level(spdlog::level::from_str(log_level));
  spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%e %L %P %v");
  ::signal(SIGPIPE, SIG_IGN);

  auto config = tandem::daemon::load_config(config_path);
  if (!config) {
    std::fprintf(stderr, "tandemd: %s\n", config.error().message.c_str());
    return exit_bad_configuration;
  }
  if (check) {
    std::printf("%s: right\n", config_path.c_str());
    return 0;
  }
  if (life_sign_fd < 0) {
    tandem::daemon::GuardianOptions options;
    options.worker = {argv[0], "--config", config_path, "--log-level", log_level};
    options.hang_timeout = config->hang_timeout;
    return tandem::daemon::run_guardian(options);
  }
  // It was started through /proc/self/exe; a person who looks at the processes shall find it.
  ::prctl(PR_SET_NAME, "tandemd-worker");
  tandem::daemon::Daemon daemon(std::move(*config), life_sign_fd);
  const auto ended = daemon.run();
  if (!ended) {
    spdlog::critical("{}", ended.error().message);
    return 1;
  }
  return 0;
}
