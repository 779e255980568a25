#include "experiments/world/delay_queue.hpp"

#include <algorithm>
#include <cmath>

#include "base/big_endian.hpp"

namespace tandem::world {

DelayQueue::DelayQueue(const DelayOptions& options)
    : options_(options),
      random_(options.seed),
      loses_below_(
          static_cast<std::uint64_t>(std::clamp(options.loss, 0.0, 1.0) * std::ldexp(1.0, 32))) {}

void DelayQueue::push(std::span<const std::byte> frame, Time now) {
  ++counters_.frames;
  if (carries_sack(frame)) ++counters_.with_sack;
  // SplitMix64, as everywhere here: the same on every machine.
  random_ += 0x9e3779b97f4a7c15U;
  std::uint64_t z = random_;
  z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27U)) * 0x94d049bb133111ebU;
  if (((z ^ (z >> 31U)) >> 32U) < loses_below_) {
    ++counters_.lost;
    return;
  }
  if (bytes_ + frame.size() > options_.bytes_max) {
    ++counters_.dropped;
    return;
  }
  bytes_ += frame.size();
  entries_.push_back({now + options_.delay, {frame.begin(), frame.end()}});
}

std::span<const std::byte> DelayQueue::front(Time now) const {
  if (entries_.empty() || entries_.front().due > now) return {};
  return entries_.front().frame;
}

void DelayQueue::pop() {
  bytes_ -= entries_.front().frame.size();
  entries_.pop_front();
}

std::optional<DelayQueue::Time> DelayQueue::due() const {
  if (entries_.empty()) return std::nullopt;
  return entries_.front().due;
}

bool carries_sack(std::span<const std::byte> frame) noexcept {
  constexpr std::size_t ethernet = 14;
  constexpr std::size_t ip_min = 20;
  constexpr std::size_t tcp_min = 20;
  constexpr std::uint8_t tcp = 6;
  constexpr std::uint8_t option_end = 0;
  constexpr std::uint8_t option_none = 1;
  constexpr std::uint8_t option_sack = 5;
  const auto byte = [&](std::size_t at) { return static_cast<std::uint8_t>(frame[at]); };
  if (frame.size() < ethernet + ip_min + tcp_min) return false;
  if (load_be<std::uint16_t>(&frame[12]) != 0x0800 || byte(ethernet + 9) != tcp) return false;
  const std::size_t ip = (byte(ethernet) & 0x0fU) * std::size_t{4};
  const std::size_t header = ethernet + ip;
  if (ip < ip_min || header + tcp_min > frame.size()) return false;
  const std::size_t end = header + (byte(header + 12) >> 4U) * std::size_t{4};
  if (end > frame.size()) return false;
  for (std::size_t at = header + tcp_min; at < end;) {
    if (byte(at) == option_end) return false;
    if (byte(at) == option_none) {
      ++at;
      continue;
    }
    if (at + 1 >= end || byte(at + 1) < 2) return false;
    if (byte(at) == option_sack) return true;
    at += byte(at + 1);
  }
  return false;
}

}  // namespace tandem::world
