// `tandem record`: what a protected VM's controller sees and decides, in a file that `tandem
// replay` reads.
#pragma once

#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "base/error.hpp"
#include "engine/cli/connection.hpp"

namespace tandem::cli {

struct RecordOptions {
  std::string vm;
  std::string file;               ///< "-": standard output
  std::chrono::seconds limit{0};  ///< 0: none
};

/// From the oldest record that the daemon keeps until interrupted, for as long as the options say,
/// or until the protection ends. Fails if an answer does not come, or records are missing; what
/// came before is in the file then, whole.
int record_vm(const Connection& connection, const RecordOptions& options);

/// The daemon's answers as the lines of a recording (engine/control/replay.hpp). Pure.
class Recording {
 public:
  /// The next lines. `answer`: to a question for what comes after after(). Errc::limit if records
  /// came faster than they were asked for and are gone, Errc::protocol for what is no answer.
  Result<std::string> take(const nlohmann::json& answer);

  [[nodiscard]] std::uint64_t after() const noexcept { return after_; }
  [[nodiscard]] std::uint64_t records() const noexcept { return records_; }

 private:
  std::optional<std::uint64_t> wanted_;  ///< the next record's number; none before the first answer
  std::uint64_t after_ = 0;
  std::uint64_t records_ = 0;
};

}  // namespace tandem::cli
