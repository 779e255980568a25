// Which flows differed, how often, and how, for the person who wants to know why their service
// mismatches. Pure.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <string>

#include "proxy/comparer.hpp"

namespace tandem::session {

class MismatchLog {
 public:
  struct Entry {
    proxy::FlowKey flow;
    std::uint64_t count = 0;
    proxy::Reason reason{};  ///< of the newest
    std::string detail;
    std::chrono::system_clock::time_point time;
  };

  /// The flows that differed last are kept, newest first.
  static constexpr std::size_t flows_max = 32;

  void add(const proxy::Mismatch& mismatch, std::chrono::system_clock::time_point now);
  [[nodiscard]] const std::deque<Entry>& entries() const noexcept { return entries_; }
  /// Checkpoints that were asked for.
  [[nodiscard]] std::uint64_t total() const noexcept { return total_; }

 private:
  std::deque<Entry> entries_;
  std::uint64_t total_ = 0;
};

}  // namespace tandem::session
