#include "engine/cli/demo_command.hpp"

#include <unistd.h>

#include <cerrno>

namespace tandem::cli {

namespace fs = std::filesystem;

Result<fs::path> find_demo() {
  std::error_code ec;
  const auto own = fs::read_symlink("/proc/self/exe", ec);
  const auto beside = own.parent_path() / "tandem-demo";
  const fs::path installed = TANDEM_LIBEXEC_DIR "/tandem-demo";
  for (const auto& candidate : {beside, installed}) {
    if (::access(candidate.c_str(), X_OK) == 0 && !fs::is_directory(candidate, ec))
      return candidate;
  }
  return Error{Errc::not_found, "the demonstration is not installed: there is no " +
                                    beside.string() + " and no " + installed.string()};
}

Error run_demo(const std::vector<std::string>& arguments) {
  const auto program = find_demo();
  if (!program) return program.error();
  auto words = arguments;
  words.insert(words.begin(), program->string());
  std::vector<char*> argv;
  for (auto& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  ::execv(program->c_str(), argv.data());
  return system_error("cannot run " + program->string(), errno);
}

}  // namespace tandem::cli
