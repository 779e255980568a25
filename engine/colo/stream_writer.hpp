// Writes a COLO stream, primary to secondary, as QEMU itself would: the other half of
// stream_parser.hpp.
//
// It appends to the caller's bytes and keeps nothing but the name of the last block, so that a
// record names its block only when it must. It does not check the order of the calls; a
// stream_parser does. Arguments that the format cannot express throw std::invalid_argument, for
// they are mistakes of the program.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/colo/stream_parser.hpp"

namespace tandem::colo {

class StreamWriter {
 public:
  /// `out` outlives the writer.
  explicit StreamWriter(std::vector<std::byte>& out);

  /// A message that has no value: any but VMSTATE_SIZE.
  void message(Message message);
  void begin_section(std::uint32_t id);
  /// `offset` is a multiple of page_size, `bytes` is page_size long. An empty `block` is the one
  /// named last, which a secondary may also know from the initial migration.
  void page(std::string_view block, std::uint64_t offset, std::span<const std::byte> bytes);
  /// What stands before the page_size bytes of a page, for a caller that sends those from
  /// elsewhere.
  void page_head(std::string_view block, std::uint64_t offset);
  void zero_page(std::string_view block, std::uint64_t offset, std::byte fill);
  /// EOS, then the footer that current machine types have.
  void end_section(bool footer = true);
  void end_sections();
  /// VMSTATE_SIZE and the device state, which is not empty.
  void device_state(std::span<const std::byte> bytes);

  /// The next record names its block, whatever came before: the reader is a new one.
  void forget_block() noexcept;

 private:
  void record_head(std::string_view block, std::uint64_t offset, std::uint64_t kind);
  template <class T>
  void append_be(T value);
  void append(std::span<const std::byte> bytes);

  std::vector<std::byte>* out_;
  std::uint32_t section_id_ = 0;
  std::string block_;
};

}  // namespace tandem::colo
