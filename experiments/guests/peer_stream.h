/* What peerd in the guest and its client agree on: the bytes of a numbered stream, and the sums
 * that prove that they came whole and in order. Plain C that is C++ as well, so that there is one
 * definition. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Eight bytes of stream `seed`, by their place: SplitMix64 (Steele, Lea, Flood 2014) has a word for
 * every index, so that any part of the stream can be checked without what came before. */
static inline uint64_t peer_stream_word(uint64_t seed, uint64_t index) {
  uint64_t z = seed + (index + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

/* Bytes [position, position + size) of stream `seed`; each word begins with its lowest byte. */
static inline void peer_stream_fill(uint64_t seed, uint64_t position, unsigned char* to,
                                    size_t size) {
  uint64_t word = peer_stream_word(seed, position / 8) >> (position % 8 * 8);
  for (size_t i = 0; i < size; ++i) {
    to[i] = (unsigned char)(word & 0xff);
    ++position;
    word = position % 8 != 0 ? word >> 8 : peer_stream_word(seed, position / 8);
  }
}

/* FNV-1a over everything so far: begin with PEER_SUM_START. Swapped, lost and doubled bytes change
 * it. */
#define PEER_SUM_START 14695981039346656037u
static inline uint64_t peer_sum(uint64_t sum, const unsigned char* bytes, size_t size) {
  for (size_t i = 0; i < size; ++i) sum = (sum ^ bytes[i]) * 1099511628211u;
  return sum;
}

/* CRC-32 (IEEE 802.3), bit by bit: it is for a few dozen bytes at a time. */
static inline uint32_t peer_crc32(const unsigned char* bytes, size_t size) {
  uint32_t crc = 0xffffffffu;
  for (size_t i = 0; i < size; ++i) {
    crc ^= bytes[i];
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1u) != 0 ? 0xedb88320u : 0u);
  }
  return ~crc;
}
