// How the commands ask a running daemon, and report what it answers.
#pragma once

#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "base/error.hpp"

namespace tandem::cli {

struct Connection {
  std::filesystem::path socket;
  bool json = false;
};

/// For what the daemon answers at once.
inline constexpr std::chrono::milliseconds answer_limit{10'000};
/// Starting examines QEMU first; changing modes and ending a protection wait for checkpoints.
inline constexpr std::chrono::milliseconds change_limit{120'000};

/// An error of the API's client, with what to do about it: which socket was asked, how to start a
/// daemon, who may ask it.
Error explain(const Error& error, const std::filesystem::path& socket);

/// Both with explained errors.
Result<nlohmann::json> get(const Connection& connection, const std::string& target,
                           std::chrono::milliseconds limit = answer_limit);
Result<nlohmann::json> post(const Connection& connection, const std::string& target,
                            const nlohmann::json& body, std::chrono::milliseconds limit);

std::string vm_path(const std::string& vm);

/// An unsigned number of an answer, whatever the answer is.
std::uint64_t number_at(const nlohmann::json& answer, const char* key, std::uint64_t otherwise);

/// The answer in JSON, or `message`; or the error. Returns the exit status.
int report_vm(const Connection& connection, const Result<nlohmann::json>& answer,
              const std::string& message);

}  // namespace tandem::cli
