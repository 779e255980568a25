#include "engine/cli/connection.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/api/client.hpp"
#include "engine/cli/output.hpp"

namespace tandem::cli {
namespace {

using nlohmann::json;

/// The daemon has errors of the same kind, about its own permissions.
bool may_use(const std::filesystem::path& socket) {
  return ::faccessat(AT_FDCWD, socket.c_str(), W_OK, AT_EACCESS) == 0;
}

}  // namespace

Error explain(const Error& error, const std::filesystem::path& socket) {
  const std::string start = "start it (systemctl start tandemd, or tandemd --config FILE)";
  const std::string elsewhere = "or name its socket with --socket or TANDEM_SOCKET";
  struct stat status {};
  const bool exists = ::stat(socket.c_str(), &status) == 0;
  if (exists && !S_ISSOCK(status.st_mode)) {
    return {error.code, socket.string() + " is not a socket: " + start + ", " + elsewhere};
  }
  if (error.code == Errc::unavailable) {
    const auto found =
        exists ? "nobody listens on the socket " + socket.string() + ": tandemd has ended; "
               : "there is no socket " + socket.string() + ": tandemd is not running; ";
    return {error.code, found + start + ", " + elsewhere};
  }
  if (error.code == Errc::permission && !may_use(socket)) {
    return {error.code, "this user may not use the socket " + socket.string() +
                            ": run this as root, or as the user that runs tandemd"};
  }
  return error;
}

Result<json> get(const Connection& connection, const std::string& target,
                 std::chrono::milliseconds limit) {
  auto answer = api::ApiClient(connection.socket).get(target, limit);
  if (!answer) return explain(answer.error(), connection.socket);
  return answer;
}

Result<json> post(const Connection& connection, const std::string& target, const json& body,
                  std::chrono::milliseconds limit) {
  auto answer = api::ApiClient(connection.socket).post(target, body, limit);
  if (!answer) return explain(answer.error(), connection.socket);
  return answer;
}

std::string vm_path(const std::string& vm) {
  return "/v1/vms/" + vm;
}

std::uint64_t number_at(const json& answer, const char* key, std::uint64_t otherwise) {
  const auto found = answer.is_object() ? answer.find(key) : answer.end();
  return found != answer.end() && found->is_number_unsigned() ? found->get<std::uint64_t>()
                                                              : otherwise;
}

int report_vm(const Connection& connection, const Result<json>& answer,
              const std::string& message) {
  if (!answer) return fail(answer.error(), connection.json);
  if (connection.json) {
    print_json(*answer);
  } else {
    write_out(message + "\n");
  }
  return exit_done;
}

}  // namespace tandem::cli
