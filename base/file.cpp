#include "base/file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "base/unique_fd.hpp"

namespace tandem {

Result<std::string> read_file(const std::filesystem::path& path, std::size_t size_max) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) {
    if (errno == ENOENT) return Error{Errc::not_found, path.string() + " does not exist"};
    return system_error("cannot open " + path.string(), errno);
  }
  std::string text;
  char piece[16384];
  for (;;) {
    const auto n = ::read(fd.get(), piece, sizeof piece);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_error("cannot read " + path.string(), errno);
    if (n == 0) return text;
    text.append(piece, static_cast<std::size_t>(n));
    if (text.size() > size_max) {
      return Error{Errc::limit,
                   path.string() + " is larger than " + std::to_string(size_max) + " bytes"};
    }
  }
}

Result<void> replace_file(const std::filesystem::path& path, std::string_view text, bool durable) {
  const auto temporary = path.string() + ".new";
  UniqueFd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!fd) return system_error("cannot create " + temporary, errno);
  while (!text.empty()) {
    const auto n = ::write(fd.get(), text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      const auto error = system_error("cannot write " + temporary, errno);
      ::unlink(temporary.c_str());
      return error;
    }
    text.remove_prefix(static_cast<std::size_t>(n));
  }
  if (durable && ::fsync(fd.get()) != 0) return system_error("cannot sync " + temporary, errno);
  fd.reset();
  if (::rename(temporary.c_str(), path.c_str()) != 0) {
    return system_error("cannot rename " + temporary, errno);
  }
  if (durable) {
    const UniqueFd folder(::open(path.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!folder || ::fsync(folder.get()) != 0) {
      return system_error("cannot sync " + path.parent_path().string(), errno);
    }
  }
  return {};
}

}  // namespace tandem
