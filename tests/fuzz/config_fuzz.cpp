// Any text as the daemon's configuration: it is read, or refused with the file's name and a line.
#include <cstdlib>
#include <string_view>

#include "engine/daemon/config.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto config = tandem::daemon::parse_config(text, "fuzz.toml");
  if (config) {
    if (!tandem::daemon::is_valid_name(config->host)) std::abort();
    for (const auto& vm : config->vms) {
      if (!tandem::hypervisor::validate(vm)) std::abort();
    }
  } else if (!config.error().message.starts_with("fuzz.toml")) {
    std::abort();
  }
  return 0;
}
