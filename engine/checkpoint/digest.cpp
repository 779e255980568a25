#include "engine/checkpoint/digest.hpp"

#include <xxhash.h>

#include <cstring>
#include <new>

namespace tandem::checkpoint {

Digester::Digester() : state_(XXH3_createState()) {
  if (!state_) throw std::bad_alloc();
  XXH3_128bits_reset(state_.get());
}

void Digester::update(std::span<const std::byte> bytes) {
  XXH3_128bits_update(state_.get(), bytes.data(), bytes.size());
}

Digest Digester::finish() const {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state_.get()));
  Digest digest;
  static_assert(sizeof canonical.digest == sizeof digest);
  std::memcpy(digest.data(), canonical.digest, sizeof digest);
  return digest;
}

void Digester::Free::operator()(XXH3_state_s* state) const {
  XXH3_freeState(state);
}

}  // namespace tandem::checkpoint
