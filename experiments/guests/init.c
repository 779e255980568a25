/* The guest's first process: brings up the network, starts redis, `dirty` and `peerd`, and says
 * BOOTED.
 *
 * It is one static program instead of a shell script because the guest runs under software
 * emulation in most tests, where every exec and every shell line is felt. It promises that after
 * "BOOTED" on the first serial port redis answers on port 6379 and peerd on port 7100 of the
 * address that `tandem.ip=A.B.C.D/N` gave on the kernel command line, that nothing else in the
 * guest wakes up by itself, and that there has been no TCP connection in it: the first is the
 * client's. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/reboot.h>
#include <net/if.h>
#include <net/route.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* PING is tried every 10 ms; a redis that has not answered after a minute never will. */
enum { PING_TRIES_MAX = 6000, CMDLINE_BYTES_MAX = 4096 };

/* Through this socket redis is asked whether it is ready: a kernel draws its secrets for sequence
 * numbers at its first TCP connection, and that one is for the client to make. */
static char redis_socket[] = "/redis.sock";
/* peerd makes this file when its port is open. */
static char peerd_ready[] = "/peerd.ready";

static char cmdline[CMDLINE_BYTES_MAX];

/* Process 1 must not end, or the kernel panics with a message of its own: say why and stop there.
 */
static void die(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  printf("init: ");
  vprintf(format, arguments);
  printf("\n");
  va_end(arguments);
  for (;;) pause();
}

static void write_file(const char* path, const char* text) {
  int fd = open(path, O_WRONLY);
  if (fd < 0) return;
  if (write(fd, text, strlen(text)) < 0) printf("init: %s: %s\n", path, strerror(errno));
  close(fd);
}

static void mount_or_die(const char* type, const char* path) {
  mkdir(path, 0755);
  if (mount(type, path, type, 0, NULL) != 0) die("mount %s: %s", path, strerror(errno));
}

static void read_cmdline(void) {
  int fd = open("/proc/cmdline", O_RDONLY);
  ssize_t length = fd < 0 ? -1 : read(fd, cmdline, sizeof cmdline - 1);
  if (length < 0) die("/proc/cmdline: %s", strerror(errno));
  cmdline[length] = 0;
  cmdline[strcspn(cmdline, "\n")] = 0;
  close(fd);
}

/* The value of the word `NAME=value` of the kernel command line, or NULL. */
static const char* parameter(const char* name, char* value, size_t size) {
  size_t name_length = strlen(name);
  for (const char* word = cmdline; *word; word += strspn(word, " ")) {
    size_t length = strcspn(word, " ");
    if (length > name_length && strncmp(word, name, name_length) == 0 && word[name_length] == '=') {
      snprintf(value, size, "%.*s", (int)(length - name_length - 1), word + name_length + 1);
      return value;
    }
    word += length;
  }
  return NULL;
}

/* The modules lie in the image in load order: /modules/order names them, one a line. */
static void load_modules(void) {
  FILE* order = fopen("/modules/order", "re");
  char name[128], path[160];
  if (!order) die("/modules/order: %s", strerror(errno));
  while (fgets(name, sizeof name, order)) {
    name[strcspn(name, "\n")] = 0;
    snprintf(path, sizeof path, "/modules/%s", name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) die("%s: %s", path, strerror(errno));
    if (syscall(SYS_finit_module, fd, "", 0) != 0 && errno != EEXIST)
      die("%s: %s", path, strerror(errno));
    close(fd);
  }
  fclose(order);
}

static void set_sockaddr(struct sockaddr* to, in_addr_t address) {
  struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = address};
  memcpy(to, &in, sizeof in);
}

static void set_up_link(int s, const char* name) {
  struct ifreq request = {0};
  snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
  if (ioctl(s, SIOCGIFFLAGS, &request) != 0) die("%s: %s", name, strerror(errno));
  request.ifr_flags |= IFF_UP | IFF_RUNNING;
  if (ioctl(s, SIOCSIFFLAGS, &request) != 0) die("%s up: %s", name, strerror(errno));
}

static void set_up_network(void) {
  char value[64];
  int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (s < 0) die("socket: %s", strerror(errno));
  set_up_link(s, "lo");
  if (!parameter("tandem.ip", value, sizeof value)) return;
  char* slash = strchr(value, '/');
  int prefix = slash ? atoi(slash + 1) : 24;
  if (slash) *slash = 0;
  struct in_addr address;
  if (inet_pton(AF_INET, value, &address) != 1 || prefix < 1 || prefix > 32)
    die("tandem.ip=%s: expected A.B.C.D/N", value);
  struct ifreq request = {0};
  snprintf(request.ifr_name, sizeof request.ifr_name, "eth0");
  set_sockaddr(&request.ifr_addr, address.s_addr);
  if (ioctl(s, SIOCSIFADDR, &request) != 0)
    die("eth0: %s (is there a virtio-net device?)", strerror(errno));
  set_sockaddr(&request.ifr_netmask, htonl(0xffffffffu << (32 - prefix)));
  if (ioctl(s, SIOCSIFNETMASK, &request) != 0) die("eth0 netmask: %s", strerror(errno));
  set_up_link(s, "eth0");
  if (parameter("tandem.gateway", value, sizeof value)) {
    struct rtentry route = {.rt_flags = RTF_UP | RTF_GATEWAY};
    if (inet_pton(AF_INET, value, &address) != 1) die("tandem.gateway=%s: expected A.B.C.D", value);
    set_sockaddr(&route.rt_gateway, address.s_addr);
    set_sockaddr(&route.rt_dst, 0);
    set_sockaddr(&route.rt_genmask, 0);
    if (ioctl(s, SIOCADDRT, &route) != 0) die("tandem.gateway=%s: %s", value, strerror(errno));
  }
  close(s);
}

static void start(char* const argv[]) {
  char* environment[] = {"PATH=/bin", "HOME=/", NULL};
  pid_t pid = fork();
  if (pid < 0) die("fork: %s", strerror(errno));
  if (pid == 0) {
    setsid();
    execve(argv[0], argv, environment);
    printf("init: %s: %s\n", argv[0], strerror(errno));
    _exit(127);
  }
}

static int redis_answers(void) {
  struct sockaddr_un to = {.sun_family = AF_UNIX};
  memcpy(to.sun_path, redis_socket, sizeof redis_socket);
  char answer[16] = {0};
  int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int ok = s >= 0 && connect(s, (struct sockaddr*)&to, sizeof to) == 0 &&
           write(s, "PING\r\n", 6) == 6 && read(s, answer, sizeof answer - 1) > 0 &&
           strncmp(answer, "+PONG", 5) == 0;
  if (s >= 0) close(s);
  return ok;
}

int main(void) {
  char value[64];
  mount_or_die("devtmpfs", "/dev");
  int console = open("/dev/console", O_RDWR | O_NOCTTY);
  if (console >= 0) {
    dup2(console, 0);
    dup2(console, 1);
    dup2(console, 2);
    if (console > 2) close(console);
  }
  setvbuf(stdout, NULL, _IOLBF, 0);
  mount_or_die("proc", "/proc");
  mount_or_die("sysfs", "/sys");
  read_cmdline();
  load_modules();

  struct rlimit files = {10240, 10240};
  setrlimit(RLIMIT_NOFILE, &files);
  /* Both keep redis from printing advice, and huge pages would hide how many pages a workload
   * dirties. */
  write_file("/proc/sys/vm/overcommit_memory", "1");
  write_file("/sys/kernel/mm/transparent_hugepage/enabled", "never");

  char* redis[] = {"/bin/redis-server",
                   "--bind",
                   "0.0.0.0",
                   "--unixsocket",
                   redis_socket,
                   "--protected-mode",
                   "no",
                   "--save",
                   "",
                   "--appendonly",
                   "no",
                   "--loglevel",
                   "warning",
                   "--daemonize",
                   "no",
                   "--maxmemory",
                   "48mb",
                   "--tcp-backlog",
                   "128",
                   "--jemalloc-bg-thread",
                   "no",
                   "--always-show-logo",
                   "no",
                   "--disable-thp",
                   "no",
                   NULL};
  if (parameter("tandem.maxmemory", value, sizeof value)) redis[16] = value;
  set_up_network();
  start(redis);
  char dirty_mib[64] = "0";
  parameter("tandem.dirty_mib", dirty_mib, sizeof dirty_mib);
  char dirty_rate[64] = "8";
  parameter("tandem.dirty_rate", dirty_rate, sizeof dirty_rate);
  char* dirty[] = {"/bin/dirty", dirty_mib, dirty_rate, NULL};
  start(dirty);
  char* peerd[] = {"/bin/peerd", peerd_ready, NULL};
  start(peerd);

  int tries = 0;
  while (access(peerd_ready, F_OK) != 0 || !redis_answers()) {
    if (++tries == PING_TRIES_MAX) die("redis or peerd does not answer");
    struct timespec interval = {0, 10 * 1000 * 1000};
    nanosleep(&interval, NULL);
  }
  printf("BOOTED\n");
  for (;;) {
    int status;
    pid_t pid = wait(&status);
    if (pid > 0) printf("init: process %d ended with status 0x%x\n", (int)pid, status);
    if (pid < 0) pause();
  }
}
