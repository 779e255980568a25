#include "base/error.hpp"

#include <cerrno>
#include <system_error>

namespace tandem {

std::string_view to_string(Errc code) noexcept {
  switch (code) {
    case Errc::invalid_input:
      return "invalid-input";
    case Errc::not_found:
      return "not-found";
    case Errc::conflict:
      return "conflict";
    case Errc::refused:
      return "refused";
    case Errc::unavailable:
      return "unavailable";
    case Errc::permission:
      return "permission";
    case Errc::timed_out:
      return "timed-out";
    case Errc::closed:
      return "closed";
    case Errc::protocol:
      return "protocol";
    case Errc::limit:
      return "limit";
    case Errc::io:
      return "io";
  }
  return "unknown";
}

Error with_context(std::string_view context, Error error) {
  error.message = std::string(context) + ": " + error.message;
  return error;
}

Error system_error(std::string_view what, int errno_value) {
  const bool denied = errno_value == EPERM || errno_value == EACCES;
  return {denied ? Errc::permission : Errc::io,
          std::string(what) + ": " + std::generic_category().message(errno_value)};
}

void throw_exception_from_error(const Error& error, const boost::source_location&) {
  throw ErrorException(error);
}

}  // namespace tandem
