// The arbiter's rules on one record, pure: every kind of arbiter makes its changes with these,
// atomically.
#pragma once

#include "engine/arbiter/arbiter.hpp"

namespace tandem::arbiter {

/// The record that replaces `old` when a pair is established.
Result<Record> establish(const std::optional<Record>& old, const std::string& pair,
                         const std::string& primary, const std::string& secondary);

struct Claimed {
  Verdict verdict;
  std::optional<Record> replacement;  ///< to be stored before the verdict is given
};
Claimed claim(const std::optional<Record>& old, std::uint64_t generation, const std::string& host);

Claimed claim_start(const std::optional<Record>& old, const std::string& host);

/// The record after `host` has stopped the VM that it ran alone.
Result<Record> retire(const Record& old, const std::string& host);

std::string to_json(const Record& record);
/// Errc::invalid_input for text that is not a whole record.
Result<Record> record_from_json(std::string_view text);

}  // namespace tandem::arbiter
