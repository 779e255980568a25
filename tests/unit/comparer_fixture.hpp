// A comparer between two VMs whose frames a test writes down, and what came out of it in words.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <vector>

#include "proxy/comparer.hpp"
#include "proxy/packet.hpp"
#include "tests/unit/packet_builder.hpp"

namespace tandem::proxy::test {

inline Packet parsed(const Bytes& frame) {
  Packet packet;
  const Malformed reason = parse(frame, Direction::from_guest, packet);
  EXPECT_EQ(reason, Malformed::none) << to_string(reason);
  return packet;
}

inline std::string payload_of(const Bytes& frame, const Packet& packet) {
  return {reinterpret_cast<const char*>(frame.data()) + packet.payload, packet.payload_size};
}

/// "1000 'hello' ack 2000", "SYN 999 ack 2000", "FIN 1005 ack 2000", "udp 'query'", "link 42".
inline std::string words(const Bytes& frame) {
  Packet packet;
  if (parse(frame, Direction::from_guest, packet) != Malformed::none) {
    return "unparsable " + std::to_string(frame.size());
  }
  const std::string payload = payload_of(frame, packet);
  if (packet.kind != Kind::tcp) {
    return std::string(to_string(packet.kind)) + (payload.empty() ? "" : " '" + payload + "'");
  }
  std::string text;
  if (packet.has(tcp_flag::rst)) text += "RST ";
  if (packet.has(tcp_flag::syn)) text += "SYN ";
  if (packet.has(tcp_flag::fin)) text += "FIN ";
  text += std::to_string(packet.seq);
  if (!payload.empty()) text += " '" + payload + "'";
  if (packet.has(tcp_flag::ack)) text += " ack " + std::to_string(packet.ack);
  return text;
}

inline std::vector<std::string> words(const Frames& frames) {
  std::vector<std::string> all;
  for (const Bytes& frame : split(frames.bytes)) {
    Packet packet;
    if (parse(frame, Direction::from_guest, packet) == Malformed::none) {
      EXPECT_EQ(reference_errors(frame), "") << words(frame);
    }
    all.push_back(words(frame));
  }
  EXPECT_EQ(all.size(), frames.count);
  return all;
}

using Words = std::vector<std::string>;

class ComparedPair {
 public:
  explicit ComparedPair(CompareLimits limits = {}) : comparer(limits) {}

  Comparer comparer;
  Comparer::Time now{std::chrono::hours(1)};

  void primary(const Bytes& frames) { comparer.primary(frames, now); }
  void secondary(const Bytes& frames) { comparer.secondary(frames, now); }
  void primary(const Tcp& segment) { primary(tcp(segment)); }
  void secondary(const Tcp& segment) { secondary(tcp(segment)); }
  void both(const Bytes& frames) {
    primary(frames);
    secondary(frames);
  }
  void both(const Tcp& segment) { both(tcp(segment)); }
  void enter() { comparer.secondary_entered(now); }
  void pass(std::chrono::milliseconds time) {
    now += time;
    comparer.tick(now);
  }

  Words released() { return words(comparer.take_released()); }
  Words committed() { return words(comparer.close_epoch()); }
  /// "payload: at byte 3: …", or nothing.
  std::string mismatch() {
    const auto found = comparer.take_mismatch();
    return found ? std::string(to_string(found->reason)) + ": " + found->detail : "";
  }
  [[nodiscard]] const CompareCounters& counters() const { return comparer.counters(); }
  [[nodiscard]] std::uint64_t mismatches(Reason reason) const {
    return counters().mismatches[static_cast<std::size_t>(reason)];
  }
  /// Nothing has got lost without a counter.
  void expect_complete() const {
    const CompareCounters& c = counters();
    EXPECT_EQ(
        c.primary_frames + c.split_frames + c.made_acknowledgements,
        c.released_frames + c.committed_frames + c.dropped_frames + comparer.waiting_frames());
  }
};

}  // namespace tandem::proxy::test
