#include "engine/cli/output_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "engine/cli/output.hpp"

namespace tandem::cli {

Result<OutputFile> OutputFile::open(const std::string& name, mode_t permissions) {
  OutputFile output;
  if (name == "-") return output;
  output.file_.reset(::open(name.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, permissions));
  if (!output.file_) return system_error("cannot write " + name, errno);
  output.name_ = name;
  return output;
}

Result<void> OutputFile::write(std::string_view piece) {
  if (!file_) {
    write_out(piece);
    return {};
  }
  for (auto rest = piece; !rest.empty();) {
    const auto n = ::write(file_.get(), rest.data(), rest.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      const auto problem = errno;
      // What stands there before is whole; a device or a pipe keeps what it has got.
      (void)!::ftruncate(file_.get(), written_);
      return system_error("cannot write " + name_, problem);
    }
    rest.remove_prefix(static_cast<std::size_t>(n));
  }
  written_ += static_cast<off_t>(piece.size());
  return {};
}

}  // namespace tandem::cli
