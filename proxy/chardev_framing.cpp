#include "proxy/chardev_framing.hpp"

#include "base/big_endian.hpp"

namespace tandem::proxy {

Result<FrameScanner::Scan> FrameScanner::scan(std::span<const std::byte> bytes) {
  Scan result;
  while (bytes.size() - result.complete >= frame_prefix_size) {
    const auto* prefix = bytes.data() + result.complete;
    const auto length = load_be<std::uint32_t>(prefix);
    const auto vnet_length = load_be<std::uint32_t>(prefix + 4);
    if (length == 0 || length > frame_length_max || vnet_length > length || vnet_length > 64) {
      return Error{Errc::protocol, "the network filter sent a frame of length " +
                                       std::to_string(length) + " with a header of " +
                                       std::to_string(vnet_length) +
                                       ": not QEMU's filter framing with vnet_hdr_support"};
    }
    if (bytes.size() - result.complete - frame_prefix_size < length) break;
    result.complete += frame_prefix_size + length;
    ++result.frames;
  }
  return result;
}

Result<FrameSpan> FrameAssembler::add(std::span<const std::byte> bytes) {
  if (!partial_.empty()) {
    joined_.swap(partial_);
    partial_.clear();
    joined_.insert(joined_.end(), bytes.begin(), bytes.end());
    bytes = joined_;
  }
  const auto scan = FrameScanner::scan(bytes);
  if (!scan) return scan.error();
  const auto rest = bytes.subspan(scan->complete);
  partial_.assign(rest.begin(), rest.end());
  return FrameSpan{bytes.first(scan->complete), scan->frames};
}

}  // namespace tandem::proxy
