#include "engine/cli/peer_probe.hpp"

#include <boost/asio/steady_timer.hpp>
#include <cmath>

#include "base/file.hpp"
#include "engine/cli/format.hpp"
#include "engine/cli/run_task.hpp"
#include "engine/transport/hello.hpp"

namespace tandem::cli {
namespace {

using namespace std::chrono_literals;
using asio::ip::tcp;

constexpr auto ask_limit = 3000ms;
constexpr std::chrono::duration<double> clock_ahead_max{1};
constexpr std::uint16_t port_min_unprivileged = 1024;

std::string to_text(const transport::Endpoint& endpoint) {
  const bool ipv6 = endpoint.host.find(':') != std::string::npos;
  return (ipv6 ? "[" + endpoint.host + "]" : endpoint.host) + ":" + std::to_string(endpoint.port);
}

Check listen_error(const std::string& where, const boost::system::error_code& ec) {
  const auto detail = "cannot listen on " + where + ": " + ec.message();
  if (ec == boost::system::errc::address_not_available) {
    return {"listen", Verdict::error, detail,
            "name an address of this host in replication.listen (ip address show)"};
  }
  if (ec == boost::system::errc::permission_denied) {
    return {"listen", Verdict::error, detail,
            "choose a port from " + std::to_string(port_min_unprivileged) +
                " up, or run tandemd as root"};
  }
  return {"listen", Verdict::error, detail, "choose another address or port in replication.listen"};
}

/// Where a listener on `listen` is reached from this host.
transport::Endpoint reachable(const transport::Endpoint& listen, const asio::ip::address& address) {
  if (!address.is_unspecified()) return listen;
  return {address.is_v6() ? "::1" : "127.0.0.1", listen.port};
}

Check judge_holder(const daemon::Config& config, const std::string& where,
                   const Result<Introduction>& holder) {
  if (holder && holder->host == config.host) {
    return {"listen", Verdict::ok, where + " is held by this host's own tandemd", {}};
  }
  if (holder) {
    return {"listen", Verdict::error,
            where + " is held by the tandemd of \"" + holder->host + "\", not of \"" + config.host +
                "\"",
            "give every daemon its own replication.listen"};
  }
  return {"listen", Verdict::error,
          where + " is held by another program (" + holder.error().message + ")",
          "stop that program (ss -ltnp 'sport = :" + std::to_string(config.listen.port) +
              "' names it), or choose another port in replication.listen"};
}

}  // namespace

Result<Introduction> parse_introduction(std::string_view text, double& time_of_answer) {
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object()) return Error{Errc::protocol, "its introduction is not a JSON object"};
  Introduction introduction;
  for (const auto& [key, into] :
       {std::pair("host", &introduction.host), std::pair("version", &introduction.version),
        std::pair("arbiter", &introduction.arbiter), std::pair("machine", &introduction.machine)}) {
    const auto found = json.find(key);
    if (found == json.end() || !found->is_string()) {
      return Error{Errc::protocol, "its introduction has no \"" + std::string(key) + "\""};
    }
    *into = found->get<std::string>();
  }
  const auto time = json.find("time");
  if (time == json.end() || !time->is_number() || !std::isfinite(time->get<double>())) {
    return Error{Errc::protocol, "its introduction has no \"time\""};
  }
  time_of_answer = time->get<double>();
  const auto qemu = json.find("qemu");
  if (qemu != json.end() && qemu->is_object()) {
    const auto version = qemu->find("version");
    const auto accel = qemu->find("accel");
    if (version != qemu->end() && version->is_string()) {
      introduction.qemu_version = version->get<std::string>();
    }
    if (accel != qemu->end() && accel->is_string()) {
      introduction.accelerator = accel->get<std::string>();
    }
  }
  return introduction;
}

Task<Result<Introduction>> ask_peer(transport::Endpoint endpoint,
                                    std::chrono::milliseconds timeout) {
  auto socket = co_await transport::connect_tcp(endpoint, timeout);
  if (!socket) co_return socket.error();
  const auto lane = transport::make_tcp_lane(std::move(*socket));
  const auto asked_at = std::chrono::system_clock::now();
  const auto text =
      co_await transport::say_hello(*lane, wire::LaneKind::control, R"({"probe":true})", timeout);
  if (!text) co_return with_context(to_text(endpoint), text.error());
  const auto answered_at = std::chrono::system_clock::now();
  double time_of_answer = 0;
  auto introduction = parse_introduction(*text, time_of_answer);
  if (!introduction) co_return with_context(to_text(endpoint), introduction.error());
  // The answer was written about half a round trip before it was read.
  const std::chrono::duration<double> asked = asked_at.time_since_epoch();
  introduction->round_trip = answered_at - asked_at;
  introduction->clock_ahead =
      std::chrono::duration<double>(time_of_answer) - (asked + introduction->round_trip / 2);
  co_return introduction;
}

Checks check_listen(const daemon::Config& config) {
  const auto where = to_text(config.listen);
  boost::system::error_code ec;
  const auto address = asio::ip::make_address(config.listen.host, ec);
  if (ec) {
    return {{"listen", Verdict::error,
             "replication.listen: \"" + config.listen.host + "\" is not an address",
             "write it as a number, such as 192.0.2.1:7070 or [2001:db8::1]:7070"}};
  }
  if (config.listen.port == 0) {
    return {{"listen", Verdict::error, where + " names no port peers could know",
             "write a port from 1 to 65535 in replication.listen"}};
  }
  Checks checks;
  {
    asio::io_context context;
    tcp::acceptor acceptor(context);
    const tcp::endpoint endpoint(address, config.listen.port);
    acceptor.open(endpoint.protocol(), ec);
    if (!ec) acceptor.set_option(tcp::acceptor::reuse_address(true), ec);
    if (!ec) acceptor.bind(endpoint, ec);
    if (!ec) acceptor.listen(1, ec);
  }
  if (!ec) {
    checks.push_back({"listen", Verdict::ok, where + " is free", {}});
  } else if (ec == boost::system::errc::address_in_use) {
    const auto holder = run_task(ask_peer(reachable(config.listen, address), ask_limit));
    checks.push_back(judge_holder(config, where, holder));
  } else {
    checks.push_back(listen_error(where, ec));
  }
  for (const auto& peer : config.peers) {
    boost::system::error_code no_number;
    const auto there = asio::ip::make_address(peer.address.host, no_number);
    if (!address.is_loopback() || (!no_number && there.is_loopback())) continue;
    checks.push_back({"listen:" + peer.name, Verdict::warning,
                      where + " can be reached from this machine only, and " + peer.name +
                          " is at " + to_text(peer.address),
                      "name an address in replication.listen that " + peer.name + " can reach"});
  }
  return checks;
}

Checks judge_peer(const daemon::Config& config, const daemon::Peer& peer,
                  const Introduction& introduction, const std::string& own_machine,
                  const std::optional<hypervisor::QemuProbe>& probed) {
  Checks checks;
  const auto name = [&](const char* what) { return std::string(what) + ":" + peer.name; };
  const auto where = to_text(peer.address);
  if (introduction.host == peer.name) {
    checks.push_back(
        {name("peer"),
         Verdict::ok,
         where + " answers in " + format_milliseconds(introduction.round_trip.count() * 1000),
         {}});
  } else {
    checks.push_back(
        {name("peer"), Verdict::error,
         "the tandemd at " + where + " is \"" + introduction.host + "\"",
         introduction.host == config.host
             ? "that is this host's own name: correct peer.address, or give every host "
               "its own host.name"
             : "correct peer.name or peer.address"});
  }

  const bool same_version = introduction.version == TANDEM_VERSION;
  checks.push_back({name("peer-version"), same_version ? Verdict::ok : Verdict::error,
                    same_version ? "tandem " + introduction.version + " on both hosts"
                                 : "tandem " TANDEM_VERSION " here, " + introduction.version +
                                       " on " + peer.name,
                    same_version ? "" : "install the same release on both hosts"});

  if (!introduction.qemu_version || !probed) {
    const auto whose = probed ? peer.name + "'s daemon has" : std::string("this host has");
    checks.push_back(
        {name("peer-qemu"), Verdict::skipped, whose + " no QEMU that could be examined (yet)", {}});
  } else {
    const auto own_version = to_string(probed->version);
    const auto own_accelerator = std::string(to_string(probed->accelerator));
    const auto here = own_version + " (" + own_accelerator + ") here";
    const auto there = *introduction.qemu_version + " (" + introduction.accelerator + ") there";
    if (own_version != *introduction.qemu_version) {
      checks.push_back({name("peer-qemu"), Verdict::error, "QEMU is " + here + ", " + there,
                        "install the same version of QEMU on both hosts"});
    } else if (own_accelerator != introduction.accelerator) {
      checks.push_back({name("peer-qemu"), Verdict::error, "QEMU is " + here + ", " + there,
                        "both hosts need the same accelerator: set qemu.accel alike"});
    } else {
      checks.push_back({name("peer-qemu"),
                        Verdict::ok,
                        "QEMU " + own_version + " (" + own_accelerator + ") on both hosts",
                        {}});
    }
  }

  const auto own_arbiter = config.arbiter_kind + ":" + config.arbiter_directory.string();
  if (introduction.arbiter != own_arbiter) {
    checks.push_back({name("peer-arbiter"), Verdict::error,
                      "the hosts ask different arbiters: " + own_arbiter + " here, " +
                          introduction.arbiter + " there",
                      "both must ask the same one: see [arbiter]"});
  } else if (config.arbiter_kind == "local" && introduction.machine != own_machine) {
    checks.push_back(
        {name("peer-arbiter"), Verdict::warning,
         "the arbiter is a folder, and the hosts are two machines",
         config.arbiter_directory.string() +
             " must be one shared file system with working locks on both; if each host "
             "has a folder of its own, both could go on with the same VM"});
  } else {
    checks.push_back({name("peer-arbiter"), Verdict::ok, own_arbiter + " on both hosts", {}});
  }

  const auto ahead = introduction.clock_ahead;
  const bool far = std::abs(ahead.count()) > clock_ahead_max.count();
  checks.push_back({name("peer-clock"), far ? Verdict::warning : Verdict::ok,
                    peer.name + "'s clock is " +
                        format_milliseconds(std::abs(ahead.count()) * 1000) +
                        (ahead.count() < 0 ? " behind" : " ahead"),
                    far ? "let NTP set both clocks; Tandem works all the same, but times in logs "
                          "cannot be compared"
                        : ""});
  return checks;
}

Checks check_peer(const daemon::Config& config, const daemon::Peer& peer,
                  const std::optional<hypervisor::QemuProbe>& probed) {
  const auto check = "peer:" + peer.name;
  const auto introduction = run_task(ask_peer(peer.address, ask_limit));
  if (!introduction) {
    const auto& error = introduction.error();
    std::string advice = "start tandemd on " + peer.name +
                         ", and let the network and its firewall pass TCP to " +
                         to_text(peer.address);
    if (error.code == Errc::protocol) advice = "correct peer.address: what answers is no tandemd";
    if (error.code == Errc::refused) advice = "install the same release of Tandem on both hosts";
    return {{check, Verdict::error, error.message, advice}};
  }
  const auto machine = read_file("/proc/sys/kernel/random/boot_id");
  const auto own_machine = machine ? machine->substr(0, machine->find('\n')) : std::string();
  return judge_peer(config, peer, *introduction, own_machine, probed);
}

}  // namespace tandem::cli
