// `tandem top`: a host's VMs and what their controllers do, live on a terminal, as one frame, or in
// JSON.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "engine/cli/connection.hpp"
#include "engine/cli/top_frame.hpp"

namespace tandem::cli {

struct TopOptions {
  std::vector<std::string> vms;  ///< empty: all
  std::chrono::milliseconds interval{2000};
  bool once = false;
  TopColumn sort = TopColumn::name;
};

/// Until interrupted, or after one frame. Fails if the first answer does not come; a daemon that
/// goes away later is waited for.
int show_top(const Connection& connection, const TopOptions& options);

}  // namespace tandem::cli
