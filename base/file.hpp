// Small files read and replaced whole.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>

#include "base/error.hpp"

namespace tandem {

/// Errc::not_found if there is none, ::limit if it is larger than `size_max`.
Result<std::string> read_file(const std::filesystem::path& path, std::size_t size_max = 1u << 20);

/// Replaces the file in one step: a reader, and a restart after a crash, sees the old text or the
/// new. With `durable`, also after a loss of power.
Result<void> replace_file(const std::filesystem::path& path, std::string_view text, bool durable);

}  // namespace tandem
