// The arbiter for two daemons on one machine: a file a pair in a shared directory, changed under a
// lock.
#pragma once

#include <filesystem>

#include "engine/arbiter/arbiter.hpp"

namespace tandem::arbiter {

class LocalArbiter final : public Arbiter {
 public:
  explicit LocalArbiter(std::filesystem::path directory) : directory_(std::move(directory)) {}

  Task<Result<std::uint64_t>> establish(std::string pair, std::string primary,
                                        std::string secondary) override;
  Task<Result<Verdict>> claim_solo(std::string pair, std::uint64_t generation,
                                   std::string host) override;
  Task<Result<Verdict>> claim_start(std::string pair, std::string host) override;
  Task<Result<void>> retire(std::string pair, std::string host) override;
  Task<Result<std::optional<Record>>> look(std::string pair) override;

 private:
  std::filesystem::path directory_;
};

}  // namespace tandem::arbiter
