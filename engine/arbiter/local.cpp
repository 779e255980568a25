#include "engine/arbiter/local.hpp"

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>

#include "base/file.hpp"
#include "base/unique_fd.hpp"
#include "engine/arbiter/decision.hpp"

namespace tandem::arbiter {
namespace {

/// Holds the pair's lock for its lifetime; the file is only ever locked, the record lies beside it.
Result<UniqueFd> lock_pair(const std::filesystem::path& directory, const std::string& pair) {
  const auto path = directory / (pair + ".lock");
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!fd) return system_error("arbiter: cannot open " + path.string(), errno);
  // The holders of this lock read and write one small file, so waiting for it is short.
  while (::flock(fd.get(), LOCK_EX) != 0) {
    if (errno != EINTR) return system_error("arbiter: cannot lock " + path.string(), errno);
  }
  return fd;
}

Result<std::optional<Record>> read_record(const std::filesystem::path& path) {
  const auto text = read_file(path);
  if (!text && text.error().code == Errc::not_found) return std::optional<Record>();
  if (!text) return text.error();
  auto record = record_from_json(*text);
  if (!record) return with_context(path.string(), record.error());
  return std::optional<Record>(std::move(*record));
}

std::filesystem::path record_path(const std::filesystem::path& directory, const std::string& pair) {
  return directory / (pair + ".json");
}

// No sync to disk: a loss of power ends both daemons and every VM that the record speaks of.
Result<void> write_record(const std::filesystem::path& path, const Record& record) {
  return replace_file(path, to_json(record), false);
}

/// One claim: reads the record, applies the rule, stores what it says, all under the lock.
template <class Rule>
Result<Verdict> decide(const std::filesystem::path& directory, const std::string& pair, Rule rule) {
  const auto locked = lock_pair(directory, pair);
  if (!locked) return locked.error();
  const auto path = record_path(directory, pair);
  const auto old = read_record(path);
  if (!old) return old.error();
  const Claimed claimed = rule(*old);
  if (claimed.replacement) {
    const auto written = write_record(path, *claimed.replacement);
    if (!written) return written.error();
  }
  return claimed.verdict;
}

}  // namespace

Task<Result<std::uint64_t>> LocalArbiter::establish(std::string pair, std::string primary,
                                                    std::string secondary) {
  const auto locked = lock_pair(directory_, pair);
  if (!locked) co_return locked.error();
  const auto path = record_path(directory_, pair);
  const auto old = read_record(path);
  if (!old) co_return old.error();
  const auto record = arbiter::establish(*old, pair, primary, secondary);
  if (!record) co_return record.error();
  const auto written = write_record(path, *record);
  if (!written) co_return written.error();
  co_return record->generation;
}

Task<Result<Verdict>> LocalArbiter::claim_solo(std::string pair, std::uint64_t generation,
                                               std::string host) {
  co_return decide(directory_, pair,
                   [&](const auto& old) { return claim(old, generation, host); });
}

Task<Result<Verdict>> LocalArbiter::claim_start(std::string pair, std::string host) {
  co_return decide(directory_, pair,
                   [&](const auto& old) { return arbiter::claim_start(old, host); });
}

Task<Result<void>> LocalArbiter::retire(std::string pair, std::string host) {
  const auto locked = lock_pair(directory_, pair);
  if (!locked) co_return locked.error();
  const auto path = record_path(directory_, pair);
  const auto old = read_record(path);
  if (!old) co_return old.error();
  if (!*old) co_return Result<void>();
  const auto record = arbiter::retire(**old, host);
  if (!record) co_return record.error();
  co_return write_record(path, *record);
}

Task<Result<std::optional<Record>>> LocalArbiter::look(std::string pair) {
  co_return read_record(record_path(directory_, pair));
}

}  // namespace tandem::arbiter
