// Any text as the arbiter's record: what is accepted survives being written and read again.
#include <cstdlib>
#include <string_view>

#include "engine/arbiter/decision.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto record = tandem::arbiter::record_from_json(text);
  if (!record) return 0;
  const auto again = tandem::arbiter::record_from_json(tandem::arbiter::to_json(*record));
  if (!again || !(*again == *record)) std::abort();
  return 0;
}
