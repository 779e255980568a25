// Frames with comments as a pcapng file, which Wireshark and tcpdump read. Format: IETF draft
// "PCAP Next Generation (pcapng) Capture File Format", section header, interface description and
// enhanced packet blocks.
//
// Pure: each call appends whole blocks, so that a file that ends anywhere between two calls is
// right.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::cli {

struct CapturedFrame {
  std::string interface;              ///< frames of one name are shown as captured on one interface
  std::chrono::microseconds time{0};  ///< since 1970
  std::string comment;                ///< may be empty
  std::vector<std::byte> frame;       ///< from the Ethernet header on
};

class PcapngWriter {
 public:
  /// Begins the file. `application`: who writes it.
  explicit PcapngWriter(std::string_view application, std::vector<std::byte>& out);

  /// Interfaces appear with their first frame.
  void add(const CapturedFrame& frame, std::vector<std::byte>& out);

 private:
  std::map<std::string, std::uint32_t> interfaces_;
};

}  // namespace tandem::cli
