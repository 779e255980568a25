#include "engine/cli/doctor.hpp"

#include <algorithm>

#include "engine/api/client.hpp"
#include "engine/cli/host_checks.hpp"
#include "engine/cli/peer_probe.hpp"

namespace tandem::cli {
namespace {

constexpr std::chrono::milliseconds status_limit{3000};

void append(Checks& to, Checks more) {
  std::ranges::move(more, std::back_inserter(to));
}

Check config_check(const std::filesystem::path& path, const Result<daemon::Config>& config) {
  if (config) {
    return {"configuration",
            Verdict::ok,
            path.string() + ": host " + config->host + ", " + std::to_string(config->peers.size()) +
                " peer(s), " + std::to_string(config->vms.size()) + " VM(s)",
            {}};
  }
  const auto& error = config.error();
  std::string advice = "correct that line; tandemd(8) describes every key";
  if (error.code == Errc::not_found) {
    advice = "write one (there is an example with the documentation), or name it with --config";
  } else if (error.code == Errc::permission) {
    advice = "run this as a user that may read it";
  }
  return {"configuration", Verdict::error, error.message, advice};
}

Check daemon_check(const daemon::Config& config, const Result<nlohmann::json>& status) {
  const auto socket = config.api_socket.string();
  if (!status) {
    if (status.error().code == Errc::unavailable) {
      return {"daemon", Verdict::skipped, "no tandemd listens at " + socket,
              "start it: systemctl start tandemd, or tandemd --config FILE"};
    }
    return {"daemon", Verdict::error, status.error().message,
            status.error().code == Errc::permission
                ? "run this as the user that runs tandemd, or as root"
                : "see tandemd's log; if it hangs, its guardian starts it again"};
  }
  const auto text = [&](const char* key) {
    const auto found = status->find(key);
    return found != status->end() && found->is_string() ? found->get<std::string>() : "?";
  };
  if (text("host") != config.host) {
    return {
        "daemon", Verdict::error,
        "the tandemd at " + socket + " is \"" + text("host") + "\", not \"" + config.host + "\"",
        "restart it with this configuration, or give every daemon its own api.socket"};
  }
  if (text("version") != TANDEM_VERSION) {
    return {"daemon", Verdict::warning,
            "tandemd is version " + text("version") + ", this is " TANDEM_VERSION,
            "restart tandemd; its VMs run on, but unprotected until they are protected again"};
  }
  return {"daemon", Verdict::ok, "tandemd " + text("version") + " runs at " + socket, {}};
}

Checks check_peers(const daemon::Config& config, const std::string& only,
                   const std::optional<hypervisor::QemuProbe>& probed) {
  Checks checks;
  for (const auto& peer : config.peers) {
    if (only.empty() || only == peer.name) append(checks, check_peer(config, peer, probed));
  }
  if (!checks.empty()) return checks;
  if (!only.empty()) {
    return {{"peer:" + only, Verdict::error,
             "there is no peer \"" + only + "\" in the configuration",
             "add a [[peer]] with this name, or name one that is there"}};
  }
  return {{"peer", Verdict::warning, "no peer is configured: nothing can be protected from here",
           "add a [[peer]] with name and address"}};
}

}  // namespace

Checks examine(const DoctorOptions& options) {
  const auto config = daemon::load_config(options.config);
  Checks checks{config_check(options.config, config)};
  std::optional<hypervisor::QemuProbe> probed;
  if (!config) {
    // QEMU where it usually lies, and taps, can be looked at all the same.
    const daemon::Config usual;
    append(checks, check_qemu(usual.qemu, probed));
    append(checks, check_network(usual, {}));
    for (const char* check : {"names", "memory", "state-dir", "run-dir", "arbiter-dir",
                              "api-socket", "daemon", "other-daemons", "listen", "peer"}) {
      checks.push_back({check, Verdict::skipped, "needs a valid configuration", {}});
    }
    return checks;
  }
  const auto answer = api::ApiClient(config->api_socket).get("/v1/status", status_limit);
  DaemonStatus status;
  if (answer && answer->is_object()) status = *answer;

  append(checks, check_names(*config));
  append(checks, check_qemu(config->qemu, probed));
  append(checks, check_network(*config, status));
  append(checks, check_vm_files(*config));
  append(checks, check_memory(*config, status));
  append(checks, check_directories(*config));
  append(checks, check_sockets(*config, options.socket));
  checks.push_back(daemon_check(*config, answer));
  append(checks, check_other_daemons(*config, status));
  append(checks, check_listen(*config));
  append(checks, check_peers(*config, options.peer, probed));
  return checks;
}

}  // namespace tandem::cli
