#include "engine/session/mismatch_log.hpp"

#include <algorithm>

namespace tandem::session {

void MismatchLog::add(const proxy::Mismatch& mismatch, std::chrono::system_clock::time_point now) {
  ++total_;
  const auto found = std::ranges::find(entries_, mismatch.flow, &Entry::flow);
  Entry entry{mismatch.flow, 0, mismatch.reason, mismatch.detail, now};
  if (found != entries_.end()) {
    entry.count = found->count;
    entries_.erase(found);
  }
  ++entry.count;
  entries_.push_front(std::move(entry));
  if (entries_.size() > flows_max) entries_.pop_back();
}

}  // namespace tandem::session
