#include "engine/web/site.hpp"

#include <algorithm>

#include "engine/metrics/exposition.hpp"
#include "engine/web/embedded_files.hpp"

namespace tandem::web {
namespace {

using Page = api::WebServer::Page;

constexpr std::string_view page_prefix = "/page/";
constexpr std::string_view vm_prefix = "/v1/vms/";
constexpr std::string_view observations = "/observations";

std::string content_type(std::string_view name) {
  if (name.ends_with(".html")) return "text/html; charset=utf-8";
  if (name.ends_with(".css")) return "text/css; charset=utf-8";
  if (name.ends_with(".js")) return "text/javascript; charset=utf-8";
  if (name.ends_with(".svg")) return "image/svg+xml";
  return "application/octet-stream";
}

const EmbeddedFile* find_file(std::string_view path) {
  const auto name = path == "/" ? "index.html" : path.substr(page_prefix.size());
  const auto& files = embedded_files();
  const auto found = std::ranges::find(files, name, &EmbeddedFile::name);
  return found == files.end() ? nullptr : &*found;
}

}  // namespace

bool is_public(std::string_view path) {
  if (path == "/v1/status" || path == "/v1/events") return true;
  if (!path.starts_with(vm_prefix) || !path.ends_with(observations)) return false;
  return path.size() > vm_prefix.size() + observations.size();
}

void redact(nlohmann::json& answer) {
  if (!answer.is_object()) return;
  const auto has = [](const nlohmann::json& json, const char* key) {
    return json.is_object() && json.contains(key);
  };
  if (has(answer, "vms")) {
    for (auto& vm : answer["vms"]) {
      if (!has(vm, "compare") || !has(vm["compare"], "mismatch_flows")) continue;
      for (auto& flow : vm["compare"]["mismatch_flows"]) flow.erase("detail");
    }
  }
  if (has(answer, "events")) {
    for (auto& event : answer["events"]) {
      if (event.value("type", "") != "mismatch") continue;
      auto& data = event["data"];
      data.erase("detail");
      event["message"] = data.value("reason", "") + ": " + data.value("flow", "");
    }
  }
}

Task<Result<Page>> answer(api::Request request, const Sources& sources) {
  if (request.path == "/metrics") {
    auto text = co_await sources.metrics();
    co_return Page{metrics::text_content_type, std::move(text)};
  }
  if (request.path == "/" || request.path.starts_with(page_prefix)) {
    const auto* file = find_file(request.path);
    if (file != nullptr) co_return Page{content_type(file->name), std::string(file->bytes)};
  }
  if (is_public(request.path)) {
    auto json = co_await sources.api(std::move(request));
    if (!json) co_return json.error();
    redact(*json);
    co_return Page{"application/json", api::to_text(*json)};
  }
  co_return Error{Errc::not_found, "there is no " + request.path + " here"};
}

}  // namespace tandem::web
