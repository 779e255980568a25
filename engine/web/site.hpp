// What the web port answers: the page, its files, the metrics, and the routes of the API that the
// page reads, without what clients have sent. Nothing here changes anything.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "engine/api/web_server.hpp"

namespace tandem::web {

struct Sources {
  /// In Prometheus' text format.
  std::function<Task<std::string>()> metrics;
  /// The API (docs/api.md).
  std::function<Task<Result<nlohmann::json>>(api::Request)> api;
};

/// Whether the web port hands this path on to the API.
bool is_public(std::string_view path);

/// Takes out what was said by the VMs' clients, and to them: the bytes at which two VMs' outputs
/// differ may be anybody's secret, and the API's socket is for the operator alone.
void redact(nlohmann::json& answer);

Task<Result<api::WebServer::Page>> answer(api::Request request, const Sources& sources);

}  // namespace tandem::web
