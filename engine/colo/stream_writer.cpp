#include "engine/colo/stream_writer.hpp"

#include <array>
#include <stdexcept>

#include "base/big_endian.hpp"
#include "engine/colo/wire_format.hpp"

namespace tandem::colo {

StreamWriter::StreamWriter(std::vector<std::byte>& out) : out_(&out) {
  block_.reserve(block_name_size_max);
}

void StreamWriter::append(std::span<const std::byte> bytes) {
  out_->insert(out_->end(), bytes.begin(), bytes.end());
}

template <class T>
void StreamWriter::append_be(T value) {
  std::array<std::byte, sizeof(T)> bytes;
  store_be(bytes.data(), value);
  append(bytes);
}

void StreamWriter::message(Message message) {
  if (message == Message::vmstate_size) {
    throw std::invalid_argument("VMSTATE_SIZE is written together with the device state");
  }
  append_be(static_cast<std::uint32_t>(message));
}

void StreamWriter::begin_section(std::uint32_t id) {
  out_->push_back(section_end);
  append_be(id);
  section_id_ = id;
}

void StreamWriter::record_head(std::string_view block, std::uint64_t offset, std::uint64_t kind) {
  if (offset % page_size != 0) {
    throw std::invalid_argument("a page's offset must be a multiple of the page size");
  }
  if (block.size() > block_name_size_max || block.find('\0') != std::string_view::npos) {
    throw std::invalid_argument("a block name has at most 255 bytes and none of them is zero");
  }
  if (block.empty() || block == block_) {
    append_be(offset | kind | flag_continue);
    return;
  }
  append_be(offset | kind);
  out_->push_back(static_cast<std::byte>(block.size()));
  append(std::as_bytes(std::span(block)));
  block_.assign(block);
}

void StreamWriter::page_head(std::string_view block, std::uint64_t offset) {
  record_head(block, offset, flag_page);
}

void StreamWriter::page(std::string_view block, std::uint64_t offset,
                        std::span<const std::byte> bytes) {
  if (bytes.size() != page_size) throw std::invalid_argument("a page has page_size bytes");
  record_head(block, offset, flag_page);
  append(bytes);
}

void StreamWriter::zero_page(std::string_view block, std::uint64_t offset, std::byte fill) {
  record_head(block, offset, flag_zero);
  out_->push_back(fill);
}

void StreamWriter::end_section(bool footer) {
  append_be(flag_eos);
  if (!footer) return;
  out_->push_back(section_footer);
  append_be(section_id_);
}

void StreamWriter::end_sections() {
  out_->push_back(section_list_end);
}

void StreamWriter::device_state(std::span<const std::byte> bytes) {
  if (bytes.empty()) throw std::invalid_argument("a device state is never empty");
  append_be(static_cast<std::uint32_t>(Message::vmstate_size));
  append_be(static_cast<std::uint64_t>(bytes.size()));
  append(bytes);
}

void StreamWriter::forget_block() noexcept {
  block_.clear();
}

}  // namespace tandem::colo
