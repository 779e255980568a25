#include "experiments/survival/report.hpp"

#include <algorithm>
#include <cmath>
#include <map>

#include "experiments/demo/ledger.hpp"
#include "experiments/demo/report.hpp"

namespace tandem::survival {
namespace {

nlohmann::json number(std::optional<double> value) {
  if (!value || !std::isfinite(*value)) return nullptr;
  return std::round(*value * 1000) / 1000;
}

struct Tally {
  std::size_t rounds = 0, connections = 0, survived = 0, after_last_checkpoint = 0, wrapped = 0;
  std::vector<double> outages, connects;
  std::uint64_t sent = 0, received = 0, replies = 0;
  double seconds = 0;
  std::vector<std::string> errors;
};

std::map<Kind, Tally> tally(const std::vector<RoundResult>& rounds) {
  std::map<Kind, Tally> kinds;
  for (const auto& round : rounds) {
    std::vector<Kind> seen;
    for (const auto& one : round.connections) {
      auto& kind = kinds[one.kind];
      if (std::ranges::find(seen, one.kind) == seen.end()) {
        seen.push_back(one.kind);
        ++kind.rounds;
      }
      ++kind.connections;
      kind.survived += one.survived ? 1 : 0;
      kind.after_last_checkpoint += one.after_last_checkpoint ? 1 : 0;
      kind.wrapped += one.wrapped ? 1 : 0;
      kind.outages.insert(kind.outages.end(), one.outage_ms.begin(), one.outage_ms.end());
      if (one.connect_ms) kind.connects.push_back(*one.connect_ms);
      kind.sent += one.bytes_sent;
      kind.received += one.bytes_received;
      kind.replies += one.replies;
      kind.seconds += one.seconds;
      if (!one.survived)
        kind.errors.push_back("seed " + std::to_string(round.seed) + ", " + one.name + ": " +
                              one.problem);
    }
  }
  return kinds;
}

std::optional<double> largest(const std::vector<double>& values) {
  if (values.empty()) return std::nullopt;
  return *std::ranges::max_element(values);
}

nlohmann::json to_json(const Tally& kind) {
  const double bits = static_cast<double>(kind.sent + kind.received) * 8;
  return {
      {"rounds", kind.rounds},
      {"connections", kind.connections},
      {"survived", kind.survived},
      {"outage_ms",
       {{"median", number(demo::median(kind.outages))}, {"max", number(largest(kind.outages))}}},
      {"connect_ms",
       {{"median", number(demo::median(kind.connects))}, {"max", number(largest(kind.connects))}}},
      {"bytes_sent", kind.sent},
      {"bytes_received", kind.received},
      {"replies", kind.replies},
      {"mbit_per_second", number(kind.seconds > 0 ? bits / kind.seconds / 1e6 : 0)},
      {"after_last_checkpoint", kind.after_last_checkpoint},
      {"wrapped", kind.wrapped},
      {"errors", kind.errors}};
}

nlohmann::json to_json(const world::DelayCounters& way) {
  return {{"frames", way.frames},
          {"lost", way.lost},
          {"dropped", way.dropped},
          {"with_sack", way.with_sack}};
}

}  // namespace

double outage_ms(const Outcome& outcome, Time from, Time to) {
  std::vector<Time> answers{outcome.opened};
  for (const auto answer : outcome.account.answers)
    if (answer <= to) answers.push_back(answer);
  const auto silence = demo::longest_silence(answers, from, to);
  return std::chrono::duration<double, std::milli>(silence).count();
}

nlohmann::json to_json(const RoundResult& round) {
  nlohmann::json kills = nlohmann::json::array();
  for (std::size_t i = 0; i < round.kills.size(); ++i) {
    nlohmann::json kill{{"kill", demo::to_string(round.kills[i])}, {"failover_ms", nullptr}};
    if (i < round.failover_ms.size()) kill["failover_ms"] = number(round.failover_ms[i]);
    if (i < round.survivors.size()) kill["survivor"] = round.survivors[i];
    if (i < round.before.size()) kill["before"] = round.before[i];
    if (i < round.after.size()) kill["after"] = round.after[i];
    kills.push_back(std::move(kill));
  }
  nlohmann::json connections = nlohmann::json::array();
  for (const auto& one : round.connections) {
    nlohmann::json outages = nlohmann::json::array();
    for (const double outage : one.outage_ms) outages.push_back(number(outage));
    connections.push_back({{"kind", to_string(one.kind)},
                           {"name", one.name},
                           {"survived", one.survived},
                           {"problem", one.problem},
                           {"outage_ms", outages},
                           {"connect_ms", number(one.connect_ms)},
                           {"bytes_sent", one.bytes_sent},
                           {"bytes_received", one.bytes_received},
                           {"replies", one.replies},
                           {"seconds", number(one.seconds)},
                           {"after_last_checkpoint", one.after_last_checkpoint},
                           {"wrapped", one.wrapped},
                           {"retransmitted", one.retransmitted}});
  }
  nlohmann::json json{{"seed", round.seed},
                      {"kills", kills},
                      {"connections", connections},
                      {"checksum_errors", round.checksum_errors},
                      {"failures", round.failures}};
  if (round.line)
    json["line"] = {{"to_guest", to_json(round.line->forth)},
                    {"from_guest", to_json(round.line->back)},
                    {"unsent", round.line->unsent},
                    {"overtaken", round.line->overtaken}};
  if (round.random_replies) json["random_replies"] = *round.random_replies;
  if (round.random_checkpoints) json["random_checkpoints"] = *round.random_checkpoints;
  return json;
}

nlohmann::json to_json(const Setting& setting, const std::vector<RoundResult>& rounds) {
  nlohmann::json list = nlohmann::json::array();
  std::size_t failed = 0;
  std::vector<double> failovers;
  for (const auto& round : rounds) {
    list.push_back(to_json(round));
    failed += round.passed() ? 0 : 1;
    for (const auto& time : round.failover_ms)
      if (time) failovers.push_back(*time);
  }
  nlohmann::json kinds = nlohmann::json::object();
  std::size_t connections = 0;
  std::size_t survived = 0;
  for (const auto& [kind, sums] : tally(rounds)) {
    kinds[std::string(to_string(kind))] = to_json(sums);
    connections += sums.connections;
    survived += sums.survived;
  }
  return {{"policy", to_string(setting.policy)},
          {"path",
           {{"kind", to_string(setting.path.kind)},
            {"round_trip_ms",
             setting.path.kind == PathKind::delay ? setting.path.round_trip.count() : 0},
            {"loss", setting.path.kind == PathKind::delay ? setting.path.loss : 0}}},
          {"second_failover", setting.second_failover},
          {"rounds", list},
          {"kinds", kinds},
          {"summary",
           {{"rounds", rounds.size()},
            {"rounds_failed", failed},
            {"connections", connections},
            {"survived", survived},
            {"failover_ms_median", number(demo::median(failovers))},
            {"failover_ms_max", number(largest(failovers))}}}};
}

std::vector<std::string> broken_promises(const Setting& setting,
                                         const std::vector<RoundResult>& rounds) {
  constexpr double outage_median_max_ms = 700;
  std::vector<std::string> broken;
  const auto kinds = tally(rounds);
  for (const auto kind : setting.kinds)
    if (!kinds.contains(kind))
      broken.push_back("no connection of the kind " + std::string(to_string(kind)));
  for (const auto& [kind, sums] : kinds) {
    const std::string name(to_string(kind));
    // A quarter is enough to show it; streams in every second round, and checkpoints of their own
    // accord, spoil some. In periodic mode there is one every 250 ms, and few connections come
    // between.
    const bool after =
        (kind == Kind::after || kind == Kind::first) && setting.policy == Policy::colo;
    if (after && sums.after_last_checkpoint * 4 < sums.connections)
      broken.push_back("only " + std::to_string(sums.after_last_checkpoint) + " of " +
                       std::to_string(sums.connections) + " connections of the kind " + name +
                       " were opened after the last checkpoint");
    if (kind == Kind::wrap && sums.wrapped * 2 < sums.connections)
      broken.push_back("only " + std::to_string(sums.wrapped) + " of " +
                       std::to_string(sums.connections) + " connections passed 2^32");
    // On a short path a connection that stands has nothing but the failover to wait for. In
    // periodic mode one that was opened after the last checkpoint does not stand: its SYN, to which
    // the answer has never left, is sent again after a second.
    const bool stands =
        kind == Kind::before || (kind == Kind::after && setting.policy == Policy::colo);
    const auto median = demo::median(sums.outages);
    if (stands && setting.path.kind != PathKind::delay && median && *median >= outage_median_max_ms)
      broken.push_back("the median of the longest silences, kind " + name + ", is " +
                       std::to_string(*median) + " ms; promised are less than " +
                       std::to_string(outage_median_max_ms));
  }
  for (const auto& round : rounds) {
    const auto seed = "--seed " + std::to_string(round.seed) + ": ";
    const bool sack = std::ranges::find(round.connections, Kind::sack, &ConnectionResult::kind) !=
                      round.connections.end();
    if (sack &&
        (!round.line || round.line->forth.with_sack == 0 || round.line->back.with_sack == 0))
      broken.push_back(seed + "no SACK blocks were seen in one direction");
    if (setting.policy == Policy::colo && round.random_replies && round.random_checkpoints &&
        *round.random_checkpoints < *round.random_replies)
      broken.push_back(seed + std::to_string(*round.random_replies) +
                       " random answers, each of which differs, but only " +
                       std::to_string(*round.random_checkpoints) + " checkpoints");
  }
  return broken;
}

}  // namespace tandem::survival
