// The numbers of QEMU's migration stream that a COLO checkpoint is made of, for the parser and the
// writer.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tandem::colo {

/// QEMU_VM_* of migration/savevm.h: what begins a section, and what ends the list of them.
inline constexpr std::byte section_list_end{0x00};
inline constexpr std::byte section_end{0x03};
inline constexpr std::byte section_footer{0x7e};

/// RAM_SAVE_FLAG_* of migration/ram.c, the low twelve bits of a ram record's head.
inline constexpr std::uint64_t flags_mask = 0xfff;
inline constexpr std::uint64_t flag_full = 0x01;
inline constexpr std::uint64_t flag_zero = 0x02;
inline constexpr std::uint64_t flag_mem_size = 0x04;
inline constexpr std::uint64_t flag_page = 0x08;
inline constexpr std::uint64_t flag_eos = 0x10;
inline constexpr std::uint64_t flag_continue = 0x20;
inline constexpr std::uint64_t flag_xbzrle = 0x40;
inline constexpr std::uint64_t flag_hook = 0x80;
inline constexpr std::uint64_t flag_compress_page = 0x100;
inline constexpr std::uint64_t flag_multifd_flush = 0x200;

}  // namespace tandem::colo
