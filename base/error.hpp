// The one kind of error value that Tandem's parts hand to each other.
//
// An error is expected on the path that returns it: a peer that went away, a file that does not
// parse. What cannot go on (a broken invariant) is an assertion or an exception instead.
#pragma once

#include <boost/assert/source_location.hpp>
#include <boost/system/result.hpp>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace tandem {

/// What kind of failure it was, for code that must choose what to do next.
enum class Errc {
  invalid_input,  ///< a value, file or message that cannot be accepted
  not_found,      ///< a name that does not exist
  conflict,       ///< it exists already, or is in another state
  refused,        ///< the other side, or a rule, says no
  unavailable,    ///< something needed is not there now
  permission,     ///< the operating system does not allow it
  timed_out,
  closed,    ///< the connection or process ended
  protocol,  ///< bytes that break the protocol they claim to speak
  limit,     ///< a limit was reached
  io,        ///< the operating system failed an operation
};

std::string_view to_string(Errc code) noexcept;

/// An error: its kind, and a message for a person that names the VM, host, file or field, says what
/// was expected and, where it helps, what to do.
struct Error {
  Errc code;
  std::string message;

  friend bool operator==(const Error&, const Error&) = default;
};

/// The same error with "`context`: " put before its message.
Error with_context(std::string_view context, Error error);

/// An Errc::io (or ::permission) error that ends in the text of `errno_value`.
Error system_error(std::string_view what, int errno_value);

struct ErrorException : std::runtime_error {
  explicit ErrorException(Error e) : std::runtime_error(e.message), error(std::move(e)) {}
  Error error;
};

/// Lets Result::value() throw; found by argument-dependent lookup.
[[noreturn]] void throw_exception_from_error(const Error& error, const boost::source_location&);

template <class T = void>
using Result = boost::system::result<T, Error>;

}  // namespace tandem
