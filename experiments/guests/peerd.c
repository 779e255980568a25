/* A service with every kind of TCP traffic that a failover must carry across, on port 7100.
 *
 * The first line that a client sends decides what its connection does:
 *
 * ECHO: sends back what comes.
 *
 * SINK N: swallows what comes; after every N bytes, and at the client's FIN, says "COUNT SUM".
 *
 * SOURCE SEED N: sends N bytes of stream SEED; every further line with a number grants so many
 * more.
 *
 * RANDOM: answers each line "ID" with "ID ", 32 random bytes in hex, " " and their CRC. Two copies
 * of the machine never answer alike.
 *
 * SERVE PAGES: a service that works in memory. Each line first writes to the next PAGES pages of
 * 32 MiB. "R ID" is then answered as by RANDOM, "D ID" in the same form with the first 32 bytes of
 * stream ID instead.
 *
 * DIAL ADDR PORT SEQ: opens a connection to ADDR:PORT, on which it echoes, and answers "ok"; SEQ is
 * the number of its SYN, "-" leaves it to the kernel. Another line may follow.
 *
 * Streams and sums are those of peer_stream.h. What it cannot do it answers with "error: …" and
 * ends the connection. A UDP packet to the same port may hold "RANDOM ID" or "DIAL …" and is
 * answered alike; a DIAL to where a connection exists already is answered and not done again, so
 * that it may be repeated.
 *
 * It is one poll() loop that wakes for nothing but its clients, and it opens no connection unasked.
 * What it says is a function of what it got, byte for byte and however that was cut into segments,
 * but for what it is asked to say at random.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "peer_stream.h"

enum {
  PORT = 7100,
  CONNECTIONS_MAX = 64, /* more wait in the listener's queue */
  OUT_BYTES = 8192,
  LINE_BYTES_MAX = 96,
  ANSWER_BYTES_MAX = 128, /* the longest that one line is answered with */
  SINK_STEP_MIN = 512,
  TOKEN_BYTES = 32,
  PAGE_BYTES = 4096,
  PAGES = 8192, /* that SERVE works in */
};
/* Not in every <netinet/tcp.h>. */
enum { PEER_TCP_NODELAY = 1, PEER_TCP_REPAIR = 19, PEER_REPAIR_QUEUE = 20, PEER_QUEUE_SEQ = 21 };
enum { PEER_SEND_QUEUE = 2 };

enum mode { UNUSED, CHOOSING, DIALING, ECHO, SINK, SOURCE, RANDOM, SERVE };

struct connection {
  enum mode mode;
  int fd;
  int peer_done;     /* its FIN has come */
  size_t head, tail; /* out[head, tail) waits to be sent */
  size_t line_length;
  uint64_t count, sum, step;    /* SINK */
  uint64_t seed, position, end; /* SOURCE */
  uint64_t pages;               /* SERVE */
  struct sockaddr_in dialed;    /* where this end dialed; family 0 if it did not */
  char line[LINE_BYTES_MAX];
  unsigned char out[OUT_BYTES];
};

static struct connection connections[CONNECTIONS_MAX];
static unsigned char in[OUT_BYTES];
static volatile unsigned char memory[PAGES][PAGE_BYTES];
static size_t next_page;

static void drop(struct connection* c) {
  close(c->fd);
  c->mode = UNUSED;
}

static struct connection* take_connection(int fd, enum mode mode) {
  for (int i = 0; i < CONNECTIONS_MAX; ++i) {
    struct connection* c = &connections[i];
    if (c->mode != UNUSED) continue;
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, PEER_TCP_NODELAY, &on, sizeof on);
    memset(c, 0, offsetof(struct connection, out));
    c->mode = mode;
    c->fd = fd;
    c->sum = PEER_SUM_START;
    return c;
  }
  return NULL;
}

static size_t room(struct connection* c) {
  if (c->head == c->tail) c->head = c->tail = 0;
  return OUT_BYTES - c->tail;
}

/* The caller has made sure that there is room. */
static void say(struct connection* c, const char* text, size_t length) {
  memcpy(c->out + c->tail, text, length);
  c->tail += length;
}

/* "ID ", the first bytes of a stream in hex, " " and the CRC of all that; returns the length. */
static size_t token_answer(const char* id, uint64_t seed, char* answer, size_t size) {
  unsigned char bytes[TOKEN_BYTES];
  char hex[2 * TOKEN_BYTES + 1];
  peer_stream_fill(seed, 0, bytes, sizeof bytes);
  for (int i = 0; i < TOKEN_BYTES; ++i) snprintf(hex + 2 * i, 3, "%02x", bytes[i]);
  int length = snprintf(answer, size, "%.20s %s", id, hex);
  uint32_t crc = peer_crc32((const unsigned char*)answer, (size_t)length);
  return (size_t)length +
         (size_t)snprintf(answer + length, size - (size_t)length, " %08" PRIx32 "\n", crc);
}

/* The answer to a request for random bytes; returns its length. Two copies of a machine have the
 * same randomness until one of their kernels has gathered more, so that the time goes in, too: to
 * the nanosecond it is never the same in both. */
static size_t random_answer(const char* id, char* answer, size_t size) {
  uint64_t seed;
  struct timespec now;
  if (getrandom(&seed, sizeof seed, 0) != sizeof seed || clock_gettime(CLOCK_MONOTONIC, &now) != 0)
    return (size_t)snprintf(answer, size, "error: no randomness\n");
  seed ^= peer_stream_word((uint64_t)now.tv_sec, (uint64_t)now.tv_nsec);
  return token_answer(id, seed, answer, size);
}

/* The kernel keeps a sequence number that is set before connect(), also when repair is off again.
 */
static int preset_sequence(int fd, uint32_t sequence) {
  const int on = 1, off = 0, queue = PEER_SEND_QUEUE;
  return setsockopt(fd, IPPROTO_TCP, PEER_TCP_REPAIR, &on, sizeof on) != 0 ||
         setsockopt(fd, IPPROTO_TCP, PEER_REPAIR_QUEUE, &queue, sizeof queue) != 0 ||
         setsockopt(fd, IPPROTO_TCP, PEER_QUEUE_SEQ, &sequence, sizeof sequence) != 0 ||
         setsockopt(fd, IPPROTO_TCP, PEER_TCP_REPAIR, &off, sizeof off) != 0;
}

/* Begins to connect. Returns NULL, or what is wrong. */
static const char* dial(const char* arguments) {
  char address[16], sequence[12], *end;
  unsigned port;
  struct sockaddr_in to = {.sin_family = AF_INET};
  if (sscanf(arguments, "%15s %5u %11s", address, &port, sequence) != 3 || port < 1 ||
      port > 65535 || inet_pton(AF_INET, address, &to.sin_addr) != 1)
    return "expected DIAL ADDR PORT SEQ";
  to.sin_port = htons((uint16_t)port);
  unsigned long number = strtoul(sequence, &end, 10);
  const int preset = strcmp(sequence, "-") != 0;
  if (preset && (*end != 0 || number == 0 || number > UINT32_MAX))
    return "SEQ: expected 1 to 2^32-1, or -";
  for (int i = 0; i < CONNECTIONS_MAX; ++i) {
    const struct connection* c = &connections[i];
    if (c->mode != UNUSED && c->dialed.sin_family != 0 && c->dialed.sin_port == to.sin_port &&
        c->dialed.sin_addr.s_addr == to.sin_addr.s_addr)
      return NULL;
  }
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return strerror(errno);
  if ((preset && preset_sequence(fd, (uint32_t)number)) ||
      (connect(fd, (struct sockaddr*)&to, sizeof to) != 0 && errno != EINPROGRESS)) {
    int error = errno;
    close(fd);
    return strerror(error);
  }
  struct connection* c = take_connection(fd, DIALING);
  if (!c) {
    close(fd);
    return "too many connections";
  }
  c->dialed = to;
  return NULL;
}

/* An unsigned decimal number and what follows it, or NULL. */
static const char* number_in(const char* text, uint64_t* number) {
  char* end;
  if (*text < '0' || *text > '9') return NULL;
  errno = 0;
  *number = strtoull(text, &end, 10);
  return errno == 0 ? end : NULL;
}

static void work_in_memory(uint64_t pages) {
  for (; pages > 0; --pages) {
    ++*(volatile uint32_t*)memory[next_page];
    next_page = (next_page + 1) % PAGES;
  }
}

/* A request to SERVE: "D ID" or "R ID". Returns NULL, or what is wrong. */
static const char* serve_line(struct connection* c) {
  char answer[ANSWER_BYTES_MAX];
  uint64_t id;
  const char* rest = c->line[0] != 0 && c->line[1] == ' ' ? number_in(c->line + 2, &id) : NULL;
  if (!rest || *rest != 0 || (c->line[0] != 'D' && c->line[0] != 'R'))
    return "expected D ID or R ID";
  work_in_memory(c->pages);
  say(c, answer,
      c->line[0] == 'R' ? random_answer(c->line + 2, answer, sizeof answer)
                        : token_answer(c->line + 2, id, answer, sizeof answer));
  return NULL;
}

/* A whole line has come, without its end. Returns 0 if the connection cannot go on. */
static int answer_line(struct connection* c) {
  char answer[ANSWER_BYTES_MAX];
  const char* problem =
      "expected ECHO, SINK N, SOURCE SEED N, RANDOM, SERVE PAGES or DIAL ADDR PORT SEQ";
  const char* rest;
  uint64_t more;
  if (c->mode == RANDOM) {
    say(c, answer, random_answer(c->line, answer, sizeof answer));
    return 1;
  }
  if (c->mode == SERVE) {
    problem = serve_line(c);
    if (!problem) return 1;
  } else if (c->mode == SOURCE) {
    rest = number_in(c->line, &more);
    if (rest && *rest == 0 && more <= UINT64_MAX - c->end) {
      c->end += more;
      return 1;
    }
    problem = "expected a number of bytes";
  } else if (strcmp(c->line, "ECHO") == 0) {
    c->mode = ECHO;
    return 1;
  } else if (strcmp(c->line, "RANDOM") == 0) {
    c->mode = RANDOM;
    return 1;
  } else if (strncmp(c->line, "SERVE ", 6) == 0) {
    rest = number_in(c->line + 6, &c->pages);
    if (rest && *rest == 0 && c->pages <= PAGES) {
      c->mode = SERVE;
      return 1;
    }
    problem = "SERVE: expected a number of at most 8192";
  } else if (strncmp(c->line, "SINK ", 5) == 0) {
    rest = number_in(c->line + 5, &c->step);
    if (rest && *rest == 0 && c->step >= SINK_STEP_MIN) {
      c->mode = SINK;
      return 1;
    }
    problem = "SINK: expected a number of at least 512";
  } else if (strncmp(c->line, "SOURCE ", 7) == 0) {
    rest = number_in(c->line + 7, &c->seed);
    rest = rest && *rest == ' ' ? number_in(rest + 1, &c->end) : NULL;
    if (rest && *rest == 0) {
      c->mode = SOURCE;
      return 1;
    }
    problem = "SOURCE: expected a seed and a number of bytes";
  } else if (strncmp(c->line, "DIAL ", 5) == 0) {
    problem = dial(c->line + 5);
    if (!problem) {
      say(c, "ok\n", 3);
      return 1;
    }
  }
  say(c, answer, (size_t)snprintf(answer, sizeof answer, "error: %s\n", problem));
  return 0;
}

/* Bytes of an ECHO or SINK connection. */
static void swallow(struct connection* c, const unsigned char* bytes, size_t length) {
  char answer[ANSWER_BYTES_MAX];
  if (c->mode == ECHO) {
    say(c, (const char*)bytes, length);
    return;
  }
  while (length > 0) {
    const uint64_t left = c->step - c->count % c->step;
    const size_t piece = left < length ? (size_t)left : length;
    c->sum = peer_sum(c->sum, bytes, piece);
    c->count += piece;
    bytes += piece;
    length -= piece;
    if (piece == left)
      say(c, answer,
          (size_t)snprintf(answer, sizeof answer, "%" PRIu64 " %016" PRIx64 "\n", c->count,
                           c->sum));
  }
}

/* How much may be read so that what it is answered with has room. */
static size_t readable(struct connection* c) {
  if (c->peer_done || c->mode == DIALING) return 0;
  const size_t free_bytes = room(c);
  if (c->mode == ECHO) return free_bytes;
  /* At the worst every byte ends a line, or every step and the FIN behind it are reported. */
  if (c->mode == SINK) {
    const size_t answers = free_bytes / ANSWER_BYTES_MAX;
    return answers > 2 ? (answers - 2) * SINK_STEP_MIN : 0;
  }
  return free_bytes / ANSWER_BYTES_MAX;
}

/* Returns 0 if the connection has ended. */
static int take_in(struct connection* c) {
  size_t wanted = readable(c);
  if (wanted == 0) return 1;
  if (wanted > sizeof in) wanted = sizeof in;
  ssize_t length = recv(c->fd, in, wanted, 0);
  if (length < 0) return errno == EAGAIN || errno == EINTR;
  if (length == 0) {
    char answer[ANSWER_BYTES_MAX];
    c->peer_done = 1;
    if (c->mode == SINK)
      say(c, answer,
          (size_t)snprintf(answer, sizeof answer, "%" PRIu64 " %016" PRIx64 "\n", c->count,
                           c->sum));
    return 1;
  }
  for (ssize_t i = 0; i < length; ++i) {
    if (c->mode == ECHO || c->mode == SINK) {
      swallow(c, in + i, (size_t)(length - i));
      return 1;
    }
    if (in[i] != '\n') {
      if (c->line_length == LINE_BYTES_MAX - 1) return 0;
      c->line[c->line_length++] = (char)in[i];
      continue;
    }
    c->line[c->line_length] = 0;
    c->line_length = 0;
    if (!answer_line(c)) c->peer_done = 1; /* the error still goes out */
    if (c->peer_done) return 1;
  }
  return 1;
}

static int has_output(const struct connection* c) {
  return c->head != c->tail || (c->mode == SOURCE && c->position != c->end);
}

/* Returns 0 if the connection has ended. */
static int give_out(struct connection* c) {
  if (c->mode == SOURCE) {
    uint64_t piece = room(c);
    if (piece > c->end - c->position) piece = c->end - c->position;
    peer_stream_fill(c->seed, c->position, c->out + c->tail, (size_t)piece);
    c->tail += (size_t)piece;
    c->position += piece;
  }
  if (c->head == c->tail) return 1;
  ssize_t sent = send(c->fd, c->out + c->head, c->tail - c->head, MSG_NOSIGNAL);
  if (sent < 0) return errno == EAGAIN || errno == EINTR;
  c->head += (size_t)sent;
  return 1;
}

static int finish_dialing(struct connection* c) {
  int error = 0;
  socklen_t size = sizeof error;
  getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
  if (error != 0) {
    printf("peerd: port %u of the client: %s\n", ntohs(c->dialed.sin_port), strerror(error));
    return 0;
  }
  c->mode = ECHO;
  return 1;
}

/* Returns 0 if the connection has ended. */
static int serve(struct connection* c, short events) {
  if (c->mode == DIALING) return (events & (POLLOUT | POLLERR | POLLHUP)) == 0 || finish_dialing(c);
  if ((events & (POLLIN | POLLERR | POLLHUP)) != 0 && !take_in(c)) return 0;
  if (has_output(c) && !give_out(c)) return 0;
  /* A reset that nobody would read otherwise. */
  if ((events & POLLERR) != 0 && readable(c) == 0 && !has_output(c)) return 0;
  return !c->peer_done || has_output(c);
}

static void answer_packet(int s) {
  char packet[LINE_BYTES_MAX], answer[ANSWER_BYTES_MAX];
  struct sockaddr_in from;
  socklen_t from_size = sizeof from;
  ssize_t length =
      recvfrom(s, packet, sizeof packet - 1, MSG_DONTWAIT, (struct sockaddr*)&from, &from_size);
  if (length < 0) return;
  packet[length] = 0;
  packet[strcspn(packet, "\n")] = 0;
  const char* problem = "expected RANDOM ID or DIAL ADDR PORT SEQ";
  size_t answer_length = 0;
  if (strncmp(packet, "RANDOM ", 7) == 0) {
    answer_length = random_answer(packet + 7, answer, sizeof answer);
    problem = NULL;
  } else if (strncmp(packet, "DIAL ", 5) == 0) {
    problem = dial(packet + 5);
    if (!problem) answer_length = (size_t)snprintf(answer, sizeof answer, "ok\n");
  }
  if (problem) answer_length = (size_t)snprintf(answer, sizeof answer, "error: %s\n", problem);
  sendto(s, answer, answer_length, MSG_DONTWAIT, (struct sockaddr*)&from, from_size);
}

static int open_port(int type) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(PORT)};
  const int on = 1;
  int fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      bind(fd, (struct sockaddr*)&address, sizeof address) != 0 ||
      (type == SOCK_STREAM && listen(fd, 128) != 0)) {
    perror("peerd: port 7100");
    exit(1);
  }
  return fd;
}

int main(int argc, char** argv) {
  const int listener = open_port(SOCK_STREAM);
  const int packets = open_port(SOCK_DGRAM);
  setvbuf(stdout, NULL, _IOLBF, 0);
  /* A file that says that the port is open, for whoever started this. */
  if (argc > 1) {
    int ready = open(argv[1], O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
    if (ready < 0) perror(argv[1]);
    if (ready >= 0) close(ready);
  }
  struct pollfd waiting[CONNECTIONS_MAX + 2];
  struct connection* served[CONNECTIONS_MAX + 2];
  for (;;) {
    nfds_t count = 2;
    for (int i = 0; i < CONNECTIONS_MAX; ++i) {
      struct connection* c = &connections[i];
      if (c->mode == UNUSED) continue;
      const int wants_out = c->mode == DIALING || has_output(c);
      const short events = (short)((readable(c) > 0 ? POLLIN : 0) | (wants_out ? POLLOUT : 0));
      waiting[count] = (struct pollfd){.fd = c->fd, .events = events};
      served[count++] = c;
    }
    const int full = count == CONNECTIONS_MAX + 2;
    waiting[0] = (struct pollfd){.fd = full ? -1 : listener, .events = POLLIN};
    waiting[1] = (struct pollfd){.fd = packets, .events = POLLIN};
    if (poll(waiting, count, -1) < 0) continue;
    for (nfds_t i = 2; i < count; ++i)
      if (waiting[i].revents != 0 && !serve(served[i], waiting[i].revents)) drop(served[i]);
    if (waiting[1].revents != 0) answer_packet(packets);
    if (waiting[0].revents != 0) {
      int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd >= 0 && !take_connection(fd, CHOOSING)) close(fd);
    }
  }
}
