#include "engine/session/trace_buffer.hpp"

#include <algorithm>
#include <utility>

#include "base/base64.hpp"
#include "base/big_endian.hpp"
#include "proxy/chardev_framing.hpp"

namespace tandem::session {
namespace {

/// What a record takes in JSON besides its frame and comment: names of members, numbers, a NIC.
constexpr std::size_t record_overhead = 200;

/// The Ethernet frame behind the chardev's prefix and the virtio-net header.
std::span<const std::byte> ethernet_of(std::span<const std::byte> frame) noexcept {
  if (frame.size() < proxy::frame_prefix_size) return {};
  const std::size_t header = load_be<std::uint32_t>(frame.data() + 4);
  const auto content = frame.subspan(proxy::frame_prefix_size);
  return content.subspan(std::min(header, content.size()));
}

}  // namespace

std::string_view to_string(TraceSide side) noexcept {
  switch (side) {
    case TraceSide::primary:
      return "primary";
    case TraceSide::secondary:
      return "secondary";
    case TraceSide::client:
      return "client";
  }
  return "?";
}

TraceBuffer::TraceBuffer(std::vector<std::string> nics, TraceLimits limits)
    : nics_(std::move(nics)), limits_(limits) {}

void TraceBuffer::touch(Time now) {
  last_read_ = now;
}

bool TraceBuffer::expired(Time now) {
  if (!last_read_ || now - *last_read_ < limits_.idle_max) return false;
  last_read_.reset();
  records_ = {};
  bytes_ = 0;
  return true;
}

void TraceBuffer::add(std::chrono::system_clock::time_point time, std::size_t nic, TraceSide side,
                      std::uint64_t epoch, std::span<const std::byte> frame, std::string comment) {
  if (!active()) return;
  const auto ethernet = ethernet_of(frame);
  if (comment.size() > limits_.comment_bytes_max) comment.resize(limits_.comment_bytes_max);
  Record record{
      ++last_, time, nic, side, epoch, std::move(comment), {ethernet.begin(), ethernet.end()}};
  bytes_ += record.bytes();
  records_.push_back(std::move(record));
  while (records_.size() > limits_.records_max || bytes_ > limits_.bytes_max) {
    bytes_ -= records_.front().bytes();
    records_.pop_front();
    ++evicted_;
  }
}

nlohmann::json TraceBuffer::after(std::uint64_t seq) const {
  if (seq > last_) seq = 0;
  const auto oldest = last_ - records_.size() + 1;
  const auto first = std::max(seq + 1, oldest);
  auto list = nlohmann::json::array();
  std::size_t bytes = 0;
  for (auto at = first; at <= last_ && list.size() < limits_.answer_records_max; ++at) {
    const auto& record = records_[at - oldest];
    bytes += record_overhead + record.comment.size() + base64_size(record.frame.size());
    if (!list.empty() && bytes > limits_.answer_bytes_max) break;
    list.push_back(to_json(record));
  }
  const auto next = first + list.size() - 1;
  return {{"records", std::move(list)}, {"next", next}, {"dropped", first - seq - 1}};
}

nlohmann::json TraceBuffer::to_json(const Record& record) const {
  const std::chrono::duration<double> time = record.time.time_since_epoch();
  return {{"seq", record.seq},
          {"time", time.count()},
          {"nic", record.nic < nics_.size() ? nics_[record.nic] : ""},
          {"side", to_string(record.side)},
          {"epoch", record.epoch},
          {"comment", record.comment},
          {"frame", encode_base64(record.frame)}};
}

}  // namespace tandem::session
