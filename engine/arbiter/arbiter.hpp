// Who may run a VM alone. Nobody leaves `primary` or `secondary` without the arbiter's word (rule
// R8), so two hosts that have lost sight of each other never both go on.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/asio.hpp"
#include "base/error.hpp"

namespace tandem::arbiter {

/// What the arbiter knows of a pair.
struct Record {
  std::string pair;                ///< the VM's name
  std::uint64_t generation = 0;    ///< only ever grows
  std::string primary, secondary;  ///< the hosts that may claim
  std::string solo;                ///< the host that runs the VM alone; empty while it is protected
  friend bool operator==(const Record&, const Record&) = default;
};

struct Verdict {
  bool granted = false;
  std::uint64_t generation = 0;  ///< the generation now
  std::string holder;            ///< who runs the VM, if not granted
};

class Arbiter {
 public:
  virtual ~Arbiter() = default;

  /// A new pair of `primary` and `secondary`: its generation. Errc::conflict if another host than
  /// `primary` runs the VM.
  virtual Task<Result<std::uint64_t>> establish(std::string pair, std::string primary,
                                                std::string secondary) = 0;

  /// Asks for the right to run `pair` alone, on behalf of `host`, which has been its member in
  /// `generation`. At most one host gets it; asking again gives the same answer. An error is no
  /// answer.
  virtual Task<Result<Verdict>> claim_solo(std::string pair, std::uint64_t generation,
                                           std::string host) = 0;

  /// Asks whether `host`, on which the VM does not run, may start it anew. A pair that nobody has ended is
  /// ended by this: its other member can then not take over any more. Not granted while another host runs
  /// the VM, as after a failover that `host` has missed.
  virtual Task<Result<Verdict>> claim_start(std::string pair, std::string host) = 0;

  /// `host`, which ran the VM alone, has stopped it: any host may start and protect it again. The
  /// generation stays. Errc::conflict if another host runs it.
  virtual Task<Result<void>> retire(std::string pair, std::string host) = 0;

  virtual Task<Result<std::optional<Record>>> look(std::string pair) = 0;
};

}  // namespace tandem::arbiter
