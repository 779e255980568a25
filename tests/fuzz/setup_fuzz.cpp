// Any text as a peer's set-up of a pair: what is accepted is valid, and survives being written and
// read again.
#include <cstdlib>
#include <string_view>

#include "engine/session/setup.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto setup = tandem::session::decode_setup(text);
  if (!setup) return 0;
  if (!tandem::hypervisor::validate(setup->definition)) std::abort();
  if (setup->settings.heartbeat.count() < 10) std::abort();
  const auto again = tandem::session::decode_setup(tandem::session::encode_setup(*setup));
  if (!again || !(again->definition == setup->definition)) std::abort();
  if (again->settings.generation != setup->settings.generation) std::abort();
  return 0;
}
