#include "engine/daemon/event_log.hpp"

#include <spdlog/spdlog.h>

namespace tandem::daemon {

nlohmann::json to_json(const LoggedEvent& event) {
  const auto seconds = std::chrono::duration<double>(event.time.time_since_epoch()).count();
  return {{"seq", event.seq},   {"time", seconds},          {"vm", event.vm},
          {"type", event.type}, {"message", event.message}, {"data", event.data}};
}

namespace {

/// What a peer has sent may be among it, and be no UTF-8.
std::string text_of(const nlohmann::json& data) {
  if (data.empty()) return {};
  return data.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

std::span<const std::string_view> event_types() noexcept {
  static constexpr std::string_view types[] = {
      "arbiter-denied", "arbiter-granted", "arbiter-silent", "daemon-recovered", "guest-shutdown",
      "loaded",         "mismatch",        "mode",           "peer-lost",        "policy",
      "promoted",       "protected",       "protecting",     "refused",          "solo",
      "synchronised",   "unprotected",     "vm-exited",      "vm-lost",          "vm-started",
  };
  return types;
}

EventLog::EventLog(std::size_t capacity) : capacity_(capacity) {
  // A counter that appears with its first event has not grown, as far as Prometheus can see.
  for (const auto type : event_types()) counts_.emplace(type, 0);
}

std::map<std::string, std::uint64_t> EventLog::counts() const {
  const std::scoped_lock lock(mutex_);
  return counts_;
}

void EventLog::add(std::string vm, std::string type, std::string message, nlohmann::json data) {
  if (!data.is_object()) data = nlohmann::json::object();
  spdlog::info("{}: {}: {} {}", vm, type, message, text_of(data));
  std::function<void()> handler;
  {
    const std::scoped_lock lock(mutex_);
    ++counts_[type];
    events_.push_back({++last_, std::chrono::system_clock::now(), std::move(vm), std::move(type),
                       std::move(message), std::move(data)});
    if (events_.size() > capacity_) events_.pop_front();
    handler = on_new_;
  }
  if (handler) handler();
}

std::vector<LoggedEvent> EventLog::after(std::uint64_t seq) const {
  const std::scoped_lock lock(mutex_);
  std::vector<LoggedEvent> found;
  for (const auto& event : events_) {
    if (event.seq > seq) found.push_back(event);
  }
  return found;
}

std::uint64_t EventLog::last() const {
  const std::scoped_lock lock(mutex_);
  return last_;
}

void EventLog::on_new(std::function<void()> handler) {
  const std::scoped_lock lock(mutex_);
  on_new_ = std::move(handler);
}

}  // namespace tandem::daemon
