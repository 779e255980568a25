#include "engine/cli/policy_command.hpp"

#include <algorithm>
#include <cmath>

#include "controller/parameters.hpp"
#include "engine/cli/fields.hpp"
#include "engine/cli/format.hpp"
#include "engine/cli/output.hpp"

namespace tandem::cli {
namespace {

using nlohmann::json;

/// What only the primary's host of a protected pair has.
Result<void> check_controller(const json& vm) {
  const auto* controller = find(vm, "/controller");
  if (controller != nullptr && controller->is_object()) return {};
  auto message = text_at(vm, "/name") + " has no controller here: ";
  if (text_at(vm, "/role") == "secondary") {
    message += "ask on " + text_at(vm, "/peer") + ", where it runs";
  } else {
    message += "it is not protected (tandem protect " + text_at(vm, "/name") + " --to PEER)";
  }
  return Error{Errc::conflict, message};
}

std::string range(const controller::ParameterInfo& info) {
  return format_number(info.min, 6) + " to " + format_number(info.max, 6) +
         (info.whole ? ", whole" : "");
}

}  // namespace

int show_policy(const Connection& connection, const std::string& vm) {
  const auto answer = get(connection, vm_path(vm));
  if (!answer) return fail(answer.error(), connection.json);
  const auto checked = check_controller(*answer);
  if (!checked) return fail(checked.error(), connection.json);
  if (connection.json) {
    print_json(*answer);
  } else {
    print_lines(policy_lines(*answer));
  }
  return exit_done;
}

int change_policy(const Connection& connection, const std::string& vm, const PolicyChange& change) {
  const auto answer = post(connection, vm_path(vm) + "/policy", to_json(change), change_limit);
  const auto policy = answer ? text_at(*answer, "/policy") : "";
  std::string set;
  for (const auto& [name, value] : change.parameters) {
    set += (set.empty() ? ", with " : ", ") + name + "=" + format_number(value, 12);
  }
  return report_vm(connection, answer, vm + " runs by policy " + policy + set);
}

int set_mode(const Connection& connection, const std::string& vm, const std::string& mode) {
  const auto answer =
      post(connection, vm_path(vm) + "/policy", to_json(PolicyChange{mode, {}}), change_limit);
  return report_vm(connection, answer, vm + " runs in " + mode + " mode");
}

std::vector<std::string> policy_lines(const json& vm) {
  Table facts({"VM", text_at(vm, "/name")});
  facts.add({"policy", text_at(vm, "/policy")});
  facts.add({"state", text_at(vm, "/controller/state")});
  facts.add({"mode", text_at(vm, "/mode")});
  facts.add({"reason", text_at(vm, "/controller/reason")});
  facts.add({"next checkpoint",
             "after " + format_milliseconds(number_or(vm, "/controller/due_ms", std::nan(""))) +
                 " at the latest, for " + text_at(vm, "/controller/mode") + " mode"});
  facts.add({"decisions", text_at(vm, "/controller/decisions") + ", of them changes of mode: " +
                              text_at(vm, "/controller/mode_changes")});
  auto lines = facts.lines();

  Table figures({"FIGURE", "VALUE"});
  const auto* values = find(vm, "/controller/figures");
  if (values != nullptr && values->is_object()) {
    for (const auto& [name, value] : values->items()) {
      figures.add({printable(name), value.is_number() ? format_number(value.get<double>(), 4)
                                                      : std::string(nothing)});
    }
  }
  lines.emplace_back();
  std::ranges::move(figures.lines(), std::back_inserter(lines));

  Table parameters({"PARAMETER", "VALUE", "UNIT", "RANGE", "MEANING"});
  for (const auto& info : controller::parameter_table()) {
    const auto pointer = "/controller/parameters/" + std::string(info.name);
    const auto value = number_or(vm, pointer.c_str(), std::nan(""));
    parameters.add({std::string(info.name), format_number(value, 12), std::string(info.unit),
                    range(info), std::string(info.meaning)});
  }
  lines.emplace_back();
  std::ranges::move(parameters.lines(), std::back_inserter(lines));
  return lines;
}

}  // namespace tandem::cli
