// What the two session machines share: the words of their decisions.
//
// A session machine decides everything about one protected pair on one side, and does no I/O: an
// event goes in, actions come out. The coroutine shell around it (primary_session,
// secondary_session) carries them out. The rules R1 to R9 in the comments are those of
// docs/architecture.md.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.hpp"
#include "controller/mode.hpp"
#include "engine/wire/protocol.hpp"

namespace tandem::session {

using Checkpoint = std::uint64_t;  ///< 0 is the initial synchronisation
using Generation = std::uint64_t;  ///< how many times the pair has changed its primary

using controller::Mode;  ///< how an epoch is run

/// The arbiter's word.
struct Granted {
  Generation generation;
};
struct Denied {
  Generation generation;
  std::string holder;  ///< the host that runs the VM now
};
/// No word: the arbiter could not be asked.
struct ArbiterSilent {
  Error error;
};

/// The peer is not there any more, or not to be relied on. It is never permission to go on alone
/// (R8).
struct PeerLost {
  Error error;
};
/// This side's VM runs, after it was told to go on alone.
struct VmRunning {};
/// This side's QEMU has ended.
struct VmLost {
  Error error;
};

struct TellPeer {
  wire::FrameType type;
  std::uint64_t number = 0;
  std::string text;  ///< the payload
};
struct CloseLanes {};
/// Asks the arbiter for solo(pair, generation), after a delay.
struct Claim {
  Generation generation;
  std::chrono::milliseconds delay;
};
struct KillVm {};

}  // namespace tandem::session
