// A file that a command writes piece by piece, or standard output.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>

#include "base/error.hpp"
#include "base/unique_fd.hpp"

namespace tandem::cli {

class OutputFile {
 public:
  /// Replaces what is there; "-" is standard output. Errors name the file.
  static Result<OutputFile> open(const std::string& name, mode_t permissions);

  /// All of it, or, as far as a file can be cut, nothing.
  Result<void> write(std::string_view piece);

  [[nodiscard]] bool is_stdout() const noexcept { return !file_; }

 private:
  UniqueFd file_;  ///< none: standard output
  std::string name_;
  off_t written_ = 0;
};

}  // namespace tandem::cli
