// Runs `tandem` and `tandemd` in tests, as a user does.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "experiments/world/process.hpp"
#include "experiments/world/world.hpp"

namespace tandem::cli {

struct Ran {
  int status = -1;
  std::string out, err;

  [[nodiscard]] nlohmann::json json() const {
    const auto parsed = nlohmann::json::parse(out, nullptr, false);
    if (parsed.is_discarded()) ADD_FAILURE() << "not JSON: " << out << err;
    return parsed;
  }
};

inline std::string content(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

/// A folder for one test.
class Folder {
 public:
  Folder() {
    std::string name = "/tmp/tnd-cli-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) ADD_FAILURE() << "no folder in /tmp";
    path_ = name;
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

/// Runs a program to its end, 60 s at most.
inline Ran run(std::vector<std::string> argv, const world::NetNamespace* net = nullptr,
               std::vector<std::string> environment = {}) {
  const Folder folder;
  world::SpawnOptions options;
  options.argv = std::move(argv);
  options.net = net;
  options.environment = std::move(environment);
  options.stdout_file = folder / "out";
  options.stderr_file = folder / "err";
  Ran ran;
  auto process = world::Process::spawn(options);
  if (!process) {
    ADD_FAILURE() << process.error().message;
    return ran;
  }
  const auto ended = process->wait(std::chrono::seconds(60));
  if (!ended) {
    ADD_FAILURE() << options.argv.back() << ": " << ended.error().message;
  } else {
    EXPECT_FALSE(ended->signalled) << ended->describe();
    ran.status = ended->value;
  }
  ran.out = content(folder / "out");
  ran.err = content(folder / "err");
  return ran;
}

inline Ran tandem(std::vector<std::string> words, const world::NetNamespace* net = nullptr) {
  words.insert(words.begin(), TANDEM_PROGRAM);
  return run(std::move(words), net);
}

inline Ran tandem(const world::Host& host, std::vector<std::string> words) {
  words.insert(words.begin(), {"--socket", host.place().api_socket});
  return tandem(std::move(words), &host.net());
}

/// Whether an error of `tandem` is one line of the promised form.
inline testing::AssertionResult is_one_line_of_error(const std::string& err) {
  if (err.starts_with("tandem: ") && err.ends_with("\n") && err.find('\n') == err.size() - 1) {
    return testing::AssertionSuccess();
  }
  return testing::AssertionFailure() << "not one line that begins with \"tandem: \": " << err;
}

inline world::DaemonOptions daemon_options() {
  world::DaemonOptions options;
  options.tandemd = TANDEMD_PROGRAM;
  options.accel = "tcg";
  options.tcg_shim = TANDEM_TCG_SHIM;
  return options;
}

/// A VM that only its firmware runs in: small, and up at once.
inline hypervisor::VmDefinition small_vm(const std::string& name) {
  hypervisor::VmDefinition vm;
  vm.name = name;
  vm.memory_mib = 32;
  hypervisor::Nic nic;
  nic.mac = "52:54:00:00:00:0a";
  nic.tap = name + "0";
  nic.bridge = world::Host::kBridge;
  vm.nics.push_back(nic);
  return vm;
}

}  // namespace tandem::cli
