#include "experiments/demo/ledger.hpp"

#include <algorithm>

namespace tandem::demo {
namespace {

constexpr std::size_t kExamples = 5;

}  // namespace

Result<void> WriteLedger::answer(Time when, const RespValue& reply) {
  if (answered_ == sent_)
    return Error{Errc::protocol, "redis answered a write that was never sent"};
  const std::uint64_t n = ++answered_;
  times_.push_back(when);
  if (reply.kind != RespValue::Kind::simple || reply.text != "OK")
    return Error{Errc::refused,
                 "redis did not accept write " + std::to_string(n) + ": \"" + reply.text + "\""};
  acknowledged_.push_back(n);
  return {};
}

std::optional<std::uint64_t> ReadBack::ask() noexcept {
  if (asked_ == keys_.size()) return std::nullopt;
  return keys_[asked_++];
}

Result<void> ReadBack::answer(const RespValue& reply) {
  if (checked_ == asked_)
    return Error{Errc::protocol, "redis answered a question that was not asked"};
  const std::uint64_t n = keys_[checked_++];
  if (reply.kind == RespValue::Kind::bulk && reply.text == WriteLedger::value_of(n)) {
    ++intact_;
  } else if (examples_.size() < kExamples) {
    examples_.push_back(n);
  }
  return {};
}

std::chrono::nanoseconds longest_silence(std::span<const Time> answers, Time from,
                                         std::optional<Time> waiting_until) {
  std::chrono::nanoseconds longest{0};
  Time previous = from;  // only if there was no answer before
  for (const Time answer : answers) {
    if (answer > from) longest = std::max(longest, std::chrono::nanoseconds(answer - previous));
    previous = answer;
  }
  if (waiting_until && *waiting_until > from)
    longest = std::max(longest, std::chrono::nanoseconds(*waiting_until - previous));
  return longest;
}

std::optional<Time> first_answer(std::span<const Time> answers, Time from) {
  const auto found = std::lower_bound(answers.begin(), answers.end(), from);
  if (found == answers.end()) return std::nullopt;
  return *found;
}

}  // namespace tandem::demo
