// Any bytes as hellos, answers and frames: what is accepted is within its limits, and written again
// it is the same bytes.
#include <algorithm>
#include <cstdlib>

#include "engine/wire/protocol.hpp"

namespace {

using namespace tandem::wire;

void require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  if (bytes.size() >= hello_header_size) {
    const auto head = bytes.first<hello_header_size>();
    if (const auto hello = decode_hello(head)) {
      require(hello->text_length <= hello_text_max);
      const auto again = encode_hello(hello->kind, std::string(hello->text_length, 'x'));
      require(std::equal(head.begin(), head.end(), again.begin()));
    }
    if (const auto answer = decode_hello_answer(head)) {
      require(answer->text_length <= hello_text_max);
      const auto again = encode_hello_answer(answer->status, std::string(answer->text_length, 'x'));
      require(std::equal(head.begin(), head.end(), again.begin()));
    }
  }
  for (std::size_t at = 0; at + frame_header_size <= bytes.size(); ++at) {
    const auto head = bytes.subspan(at).first<frame_header_size>();
    for (const auto lane : {LaneKind::bulk, LaneKind::packet, LaneKind::control}) {
      constexpr std::uint64_t checkpoint_max = 1u << 30;
      const auto header = decode_frame(head, lane, checkpoint_max);
      if (!header) {
        require(!header.error().message.empty());
        continue;
      }
      require(header->length <= checkpoint_max);
      require(lane == LaneKind::bulk || header->length <= control_payload_max);
      const auto again = encode_frame(*header);
      require(std::equal(head.begin(), head.end(), again.begin()));
    }
  }
  return 0;
}
