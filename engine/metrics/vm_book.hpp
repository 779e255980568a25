// What was counted of a VM since the daemon began, through all of its sessions, processes and
// units: Prometheus takes a counter that goes back for a daemon that was started again.
#pragma once

#include <prometheus/histogram.h>

#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "engine/metrics/exposition.hpp"
#include "engine/metrics/sample.hpp"

namespace tandem::metrics {

/// Thread-safe: while one unit of a VM ends, the next one may begin.
class VmBook {
 public:
  VmBook() : pauses_(pause_buckets()), commits_(commit_latency_buckets()) {}

  /// What something has counted that exists no more.
  void close(const Totals& counted) {
    const std::scoped_lock lock(mutex_);
    closed_ += counted;
  }

  /// All there is, together with what those have counted that still exist. What is on its way from
  /// one to the other is missing for a moment; what was said before is not taken back then.
  Totals total(const Totals& open) {
    const std::scoped_lock lock(mutex_);
    auto sum = closed_;
    sum += open;
    return said_ = max(said_, sum);
  }

  void paused(std::chrono::duration<double> pause) { pauses_.Observe(pause.count()); }
  void committed(std::chrono::duration<double> latency) { commits_.Observe(latency.count()); }
  [[nodiscard]] prometheus::ClientMetric pauses() const { return pauses_.Collect(); }
  [[nodiscard]] prometheus::ClientMetric commits() const { return commits_.Collect(); }

 private:
  std::mutex mutex_;
  Totals closed_, said_;
  prometheus::Histogram pauses_, commits_;
};

/// The books of all VMs that this host has had. Used on the main thread only.
class Shelf {
 public:
  explicit Shelf(std::size_t books_max = 1024) : books_max_(books_max) {}

  /// The book of VM `name`, new or where it was left. Beyond the limit, books that nobody uses are
  /// thrown away.
  std::shared_ptr<VmBook> book(const std::string& name) {
    const auto found = books_.find(name);
    if (found != books_.end()) return found->second;
    if (books_.size() >= books_max_) {
      std::erase_if(books_, [](const auto& entry) { return entry.second.use_count() == 1; });
    }
    return books_[name] = std::make_shared<VmBook>();
  }
  [[nodiscard]] std::size_t size() const noexcept { return books_.size(); }

 private:
  std::size_t books_max_;
  std::map<std::string, std::shared_ptr<VmBook>> books_;
};

}  // namespace tandem::metrics
