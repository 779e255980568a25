// `tandem policy` and `tandem mode`: what a protected VM's controller is about, and changing it.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/cli/connection.hpp"
#include "engine/cli/policy_change.hpp"

namespace tandem::cli {

/// Errc::conflict if the VM is not the primary of a protected pair here.
int show_policy(const Connection& connection, const std::string& vm);

/// Returns when the pair runs in the mode that the policy begins with.
int change_policy(const Connection& connection, const std::string& vm, const PolicyChange& change);

/// `mode`: "periodic" or "colo", the policies that know one mode.
int set_mode(const Connection& connection, const std::string& vm, const std::string& mode);

/// Policy, state, figures and parameters of a VM's status, in lines. Pure; whatever `vm` holds.
std::vector<std::string> policy_lines(const nlohmann::json& vm);

}  // namespace tandem::cli
