// A long and lossy path between two links of a namespace, frame by frame: what comes in on one goes
// out on the other, later or not at all. (The kernel's own netem is not everywhere.)
#pragma once

#include <array>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "base/error.hpp"
#include "base/unique_fd.hpp"
#include "experiments/world/delay_queue.hpp"
#include "experiments/world/net_namespace.hpp"

namespace tandem::world {

struct DelayLineCounters {
  DelayCounters forth, back;    ///< from the first link to the second, and back
  std::uint64_t unsent = 0;     ///< the kernel did not take them: too large, or the link is down
  std::uint64_t overtaken = 0;  ///< dropped by the kernel before they were read
};

class DelayLine {
 public:
  /// Both links are up and carry nothing else. What comes in must be whole Ethernet frames as a
  /// wire would carry them: whoever sends has its offload off (NetNamespace::set_offload).
  static Result<std::unique_ptr<DelayLine>> start(const NetNamespace& net, const std::string& first,
                                                  const std::string& second,
                                                  const DelayOptions& options);
  DelayLine(const DelayLine&) = delete;
  DelayLine& operator=(const DelayLine&) = delete;
  ~DelayLine();

  [[nodiscard]] DelayLineCounters counters();

 private:
  explicit DelayLine(const DelayOptions& options);
  void run();
  void take_in(std::size_t side);
  void give_out(std::size_t side);

  std::array<UniqueFd, 2> sockets_;
  UniqueFd stop_;
  std::mutex mutex_;
  std::array<DelayQueue, 2> queues_;  // by the side where frames come in
  std::uint64_t unsent_ = 0, overtaken_ = 0;
  std::thread thread_;
};

}  // namespace tandem::world
