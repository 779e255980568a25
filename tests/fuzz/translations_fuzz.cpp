// Any bytes as a peer's table of translated connections: what is accepted is within its limit, and
// written again it is the same bytes.
#include <algorithm>
#include <cstdlib>

#include "proxy/translator.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto table = tandem::proxy::decode_translations(bytes);
  if (!table) {
    if (table.error().message.empty()) std::abort();
    return 0;
  }
  if (table->size() > tandem::proxy::translations_max) std::abort();
  if (!std::ranges::equal(tandem::proxy::encode(*table), bytes)) std::abort();
  tandem::proxy::Translator translator;
  translator.reset(*table);
  if (translator.size() != table->size()) std::abort();
  return 0;
}
