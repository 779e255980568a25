// `tandem trace`: what the comparer of a VM in colo mode sees and decides, as a pcapng file or as
// JSON.
#pragma once

#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "base/error.hpp"
#include "engine/cli/connection.hpp"
#include "engine/cli/pcapng.hpp"

namespace tandem::cli {

struct TraceOptions {
  std::string vm;
  std::string file;               ///< "-": standard output; empty: JSON lines there
  std::chrono::seconds limit{0};  ///< 0: none
};

/// Until interrupted, or for as long as the options say. Fails if an answer does not come, or is
/// none; what came before is in the file then, whole.
int trace_vm(const Connection& connection, const TraceOptions& options);

/// One record of the API's trace as a frame of a capture. Errc::protocol if it is none.
Result<CapturedFrame> captured_frame(const nlohmann::json& record);

/// "web: 123 frames (1.2 MiB) in web.pcapng, none dropped".
std::string trace_summary(const TraceOptions& options, std::uint64_t frames, std::uint64_t bytes,
                          std::uint64_t dropped);

}  // namespace tandem::cli
