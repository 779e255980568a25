#include "engine/control/replay.hpp"

#include "engine/control/json.hpp"

namespace tandem::control {
namespace {

using controller::Controller;
using controller::Mode;
using nlohmann::json;

class Replayer {
 public:
  explicit Replayer(const Replay::Otherwise& otherwise) : otherwise_(otherwise) {}

  Result<void> take(const json& line) {
    if (!controller_) return begin(line);
    if (!line.at("seq").is_number_unsigned()) {
      return Error{Errc::invalid_input, "seq is not a whole number"};
    }
    const auto seq = line["seq"].get<std::uint64_t>();
    if (last_seq_ && seq != *last_seq_ + 1) {
      return Error{Errc::invalid_input, "record " + std::to_string(*last_seq_ + 1) +
                                            " is missing: the next one is " + std::to_string(seq)};
    }
    last_seq_ = seq;
    return line.contains("change") ? change(line.at("change")) : decide(seq, line);
  }

  Result<Replay::Summary> finish() {
    if (!controller_) return Error{Errc::invalid_input, "the recording is empty"};
    summary_.policy = controller_->policy();
    return summary_;
  }

 private:
  Result<void> begin(const json& line) {
    if (line.value("tandem_recording", json()) != 1) {
      return Error{Errc::invalid_input, "this is not a recording of version 1"};
    }
    summary_.vm = line.at("vm");
    auto start = controller_from_json(line.at("start"));
    if (!start) {
      return Error{start.error().code,
                   start.error().message + "; a recording is replayed by the version that made it"};
    }
    controller_ = std::move(*start);
    return otherwise_.policy || !otherwise_.parameters.empty()
               ? apply(controller_->policy(), controller_->parameters())
               : Result<void>();
  }

  Result<void> apply(controller::Policy policy, controller::Parameters parameters) {
    const auto set = set_parameters(otherwise_.parameters, parameters);
    if (!set) return set.error();
    controller_->change(otherwise_.policy.value_or(policy), parameters);
    return {};
  }

  Result<void> change(const json& object) {
    const auto policy = policy_from_string(object.at("policy").get<std::string>());
    if (!policy) return policy.error();
    controller::Parameters parameters;
    const auto set = set_parameters(object.at("parameters"), parameters);
    if (!set) return set.error();
    ++summary_.changes;
    return apply(*policy, parameters);
  }

  Result<void> decide(std::uint64_t seq, const json& line) {
    const auto observation = observation_from_json(line.at("observation"));
    if (!observation) return observation.error();
    const auto recorded = decision_from_json(line.at("decision"));
    if (!recorded) return recorded.error();
    const auto cycle_s = observation->pause_s + observation->uptime_s;
    const auto before = controller_->last().mode;
    summary_.total_s += cycle_s;
    if (observation->mode == Mode::colo) summary_.recorded_colo_s += cycle_s;
    if (before == Mode::colo) summary_.replayed_colo_s += cycle_s;
    const auto replayed = controller_->decide(*observation);
    ++summary_.decisions;
    if (replayed.mode != before) ++summary_.mode_changes;
    if (replayed == *recorded) return {};
    if (++summary_.differences <= Replay::differences_kept) {
      summary_.first_differences.push_back({seq, *recorded, replayed});
    }
    return {};
  }

  const Replay::Otherwise& otherwise_;
  std::optional<Controller> controller_;
  std::optional<std::uint64_t> last_seq_;
  Replay::Summary summary_;
};

/// Like std::getline, but stops in a line that is too long. False at the end.
bool read_line(std::istream& in, std::string& line) {
  line.clear();
  auto& buffer = *in.rdbuf();
  for (auto c = buffer.sbumpc(); c != std::istream::traits_type::eof(); c = buffer.sbumpc()) {
    if (c == '\n' || line.size() > Replay::line_max) return true;
    line += static_cast<char>(c);
  }
  return !line.empty();
}

}  // namespace

Result<Replay::Summary> Replay::run(std::istream& recording, const Otherwise& otherwise) {
  Replayer replayer(otherwise);
  std::string line;
  for (std::uint64_t number = 1; read_line(recording, line); ++number) {
    const auto where = "line " + std::to_string(number);
    if (line.empty()) continue;
    if (line.size() > line_max) return Error{Errc::limit, where + " is too long"};
    const auto parsed = json::parse(line, nullptr, false);
    if (!parsed.is_object()) return Error{Errc::invalid_input, where + " is not a JSON object"};
    try {
      const auto taken = replayer.take(parsed);
      if (!taken) return with_context(where, taken.error());
    } catch (const json::exception& error) {
      return Error{Errc::invalid_input, where + ": " + error.what()};
    }
  }
  return replayer.finish();
}

}  // namespace tandem::control
