// Any text as a recording: what is accepted adds up, says the same a second time, and can be decided
// otherwise by every policy.
#include <cstdlib>
#include <sstream>
#include <string>

#include "engine/control/replay.hpp"

using tandem::control::Replay;

namespace {

tandem::Result<Replay::Summary> replay(const std::string& text,
                                       const Replay::Otherwise& otherwise = {}) {
  std::istringstream in(text);
  return Replay::run(in, otherwise);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto summary = replay(text);
  if (!summary) return 0;
  if (summary->differences > summary->decisions || summary->mode_changes > summary->decisions) {
    std::abort();
  }
  if (summary->first_differences.size() !=
      std::min<std::uint64_t>(summary->differences, Replay::differences_kept)) {
    std::abort();
  }
  const auto again = replay(text);
  if (!again || again->differences != summary->differences ||
      again->mode_changes != summary->mode_changes) {
    std::abort();
  }
  for (const auto policy : tandem::controller::policies) {
    const auto other = replay(text, {policy, nlohmann::json::object()});
    // A recorded change may contradict nothing, whichever policy it is for.
    if (!other || other->policy != policy || other->decisions != summary->decisions) std::abort();
  }
  return 0;
}
