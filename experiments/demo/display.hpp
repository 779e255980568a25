// What a person sees of the demonstration: steps as they happen, and on a terminal a status line
// that is rewritten in place. Elsewhere every line carries the time since the start.
#pragma once

#include <chrono>
#include <cstdio>
#include <string>

namespace tandem::demo {

class Display {
 public:
  /// `out` stays the caller's. Colours and rewriting only if it is a terminal (and NO_COLOR is not
  /// set, for the colours).
  Display(std::FILE* out, bool verbose);

  void heading(const std::string& text);
  /// One step: what is done and why.
  void step(const std::string& text);
  /// Something a host reports.
  void event(const std::string& host, const std::string& text);
  void good(const std::string& text);
  void bad(const std::string& text);
  /// Shown only with --verbose.
  void detail(const std::string& text);
  /// The state right now; on a terminal it replaces the former status, elsewhere it appears every 5
  /// s.
  void status(const std::string& text);
  /// Before somebody else writes to the same terminal.
  void clear_status();

 private:
  void line(const char* colour, const std::string& mark, const std::string& text);

  std::FILE* out_;
  bool verbose_, terminal_, colours_;
  bool status_shown_ = false;
  std::chrono::steady_clock::time_point start_, last_line_;
};

}  // namespace tandem::demo
