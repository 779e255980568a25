/* Dirties guest memory at a known rate: rewrites one word in every page of N MiB, P times a second.
 *
 *   dirty [N [P]]        N MiB to begin with (default 0: off), P passes a second (default 8)
 *
 * A UDP packet on port 7000 with a decimal number sets N and is answered "ok N"; the packet
 * "poweroff" switches the machine off; anything else is answered "error: …". With N = 0 it sleeps
 * in poll() and wakes for nothing. A pass that takes longer than its share of a second is followed
 * by the next at once: passes are late then, never doubled. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

enum { PORT = 7000, PAGE_BYTES = 4096, MIB_MAX = 16384, RATE_MAX = 1000 };

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* A whole decimal number of at most `max`, or -1. */
static long parse(const char* text, long max) {
  char* end;
  if (*text < '0' || *text > '9') return -1;
  errno = 0;
  long number = strtol(text, &end, 10);
  while (*end == '\n' || *end == '\r' || *end == ' ') ++end;
  return *end || errno || number > max ? -1 : number;
}

static volatile unsigned char* area;
static size_t area_bytes;

/* What every page's word holds: the number of the last whole pass; 0 in a fresh area. */
static uint32_t written;

static void write_word(size_t at, uint32_t pass) {
  static int complaints_left = 10;
  volatile uint32_t* word = (volatile uint32_t*)(area + at);
  if (*word != written && complaints_left > 0) {
    --complaints_left;
    fprintf(stderr, "dirty: page %zu holds %u instead of %u\n", at / PAGE_BYTES, *word, written);
  }
  *word = pass;
}

/* Returns 0, or an errno; the old size stays in force after an error. More than is free is refused,
 * for the kernel would otherwise make room by killing the guest's service. */
static int resize(long mib) {
  size_t bytes = (size_t)mib << 20;
  void* fresh = NULL;
  struct sysinfo memory;
  if (sysinfo(&memory) != 0) return errno;
  if (bytes > memory.freeram * memory.mem_unit + area_bytes) return ENOMEM;
  if (bytes) {
    fresh = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fresh == MAP_FAILED) return errno;
  }
  if (area) munmap((void*)area, area_bytes);
  area = fresh;
  area_bytes = bytes;
  written = 0;
  return 0;
}

static void answer_packet(int s) {
  char packet[64], reply[96];
  struct sockaddr_in from;
  socklen_t from_size = sizeof from;
  ssize_t length =
      recvfrom(s, packet, sizeof packet - 1, MSG_DONTWAIT, (struct sockaddr*)&from, &from_size);
  if (length < 0) return;
  packet[length] = 0;
  if (strncmp(packet, "poweroff", 8) == 0) reboot(RB_POWER_OFF);
  long mib = parse(packet, MIB_MAX);
  int error = mib < 0 ? EINVAL : resize(mib);
  if (error)
    snprintf(reply, sizeof reply, "error: %s", strerror(error));
  else
    snprintf(reply, sizeof reply, "ok %ld", mib);
  sendto(s, reply, strlen(reply), MSG_DONTWAIT, (struct sockaddr*)&from, from_size);
}

int main(int argc, char** argv) {
  long mib = argc > 1 ? parse(argv[1], MIB_MAX) : 0;
  long rate = argc > 2 ? parse(argv[2], RATE_MAX) : 8;
  if (mib < 0 || rate < 1) {
    fprintf(stderr, "usage: dirty [MIB (0-%d) [PASSES A SECOND (1-%d)]]\n", MIB_MAX, RATE_MAX);
    return 2;
  }
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(PORT)};
  int s = socket(AF_INET, SOCK_DGRAM, 0);
  if (s < 0 || bind(s, (struct sockaddr*)&address, sizeof address) != 0) {
    perror("dirty: port 7000");
    return 1;
  }
  int error = resize(mib);
  if (error) {
    fprintf(stderr, "dirty: %ld MiB: %s\n", mib, strerror(error));
    return 1;
  }
  const uint64_t period_ns = 1000000000u / (uint64_t)rate;
  uint64_t due_ns = now_ns();
  for (uint32_t pass = 1;; ++pass) { /* wraps after years */
    /* Between passes all time is spent in poll(), so that a new size takes effect at once. */
    for (;;) {
      struct pollfd readable = {.fd = s, .events = POLLIN};
      uint64_t now = now_ns();
      uint64_t wait_ns = due_ns > now ? due_ns - now : 0;
      struct timespec timeout = {(time_t)(wait_ns / 1000000000u), (long)(wait_ns % 1000000000u)};
      int ready = ppoll(&readable, 1, area ? &timeout : NULL, NULL);
      if (ready > 0) {
        if (!area) due_ns = now_ns();
        answer_packet(s);
      } else if (ready == 0) {
        break;
      }
    }
    for (size_t at = 0; at < area_bytes; at += PAGE_BYTES) write_word(at, pass);
    written = area ? pass : 0;
    due_ns += period_ns;
    uint64_t now = now_ns();
    if (due_ns < now) due_ns = now;
  }
}
