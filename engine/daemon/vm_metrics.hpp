// What a VM and its sessions have counted, as metrics.
#pragma once

#include <chrono>

#include "engine/metrics/sample.hpp"
#include "engine/session/primary_session.hpp"
#include "engine/session/secondary_session.hpp"

namespace tandem::daemon {

metrics::Totals totals_of(const session::ChannelCounters& channel);
/// Without their channels, which may outlive them.
metrics::Totals totals_of(const session::PrimarySession& session);
metrics::Totals totals_of(const session::SecondarySession& session);

metrics::Failover failover_of(const session::FailoverTimes& times,
                              std::chrono::system_clock::time_point ended);

}  // namespace tandem::daemon
