// The parts of a VM's status that sessions count, as docs/api.md names them.
#pragma once

#include <nlohmann/json.hpp>
#include <vector>

#include "engine/session/input_queue.hpp"
#include "engine/session/mismatch_log.hpp"
#include "engine/session/net_channel.hpp"
#include "engine/session/pacer.hpp"
#include "engine/session/session.hpp"

namespace tandem::daemon {

nlohmann::json to_json(const session::FailoverTimes& times);
nlohmann::json to_json(const session::InputCounters& input);
/// What the controller is about.
nlohmann::json to_json(const session::Pacer& pacer);
/// What the comparers of all NICs have counted.
nlohmann::json comparison(const std::vector<session::NetChannel::Pointer>& channels,
                          const session::MismatchLog& log);

}  // namespace tandem::daemon
