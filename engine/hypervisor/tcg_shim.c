/* Preloaded into QEMU (LD_PRELOAD) so that its COLO works under software emulation (TCG).
 *
 * Under KVM, from QEMU 11 on, and in every process that is not QEMU it only passes calls through;
 * KVM users need it at no version. It mends two faults of QEMU from outside, through the only doors
 * that a stock binary leaves open: the libc functions that it calls at the right moments.
 *
 * 1. Before QEMU 11: a COLO checkpoint hangs.
 *    The checkpoint saves RAM without holding QEMU's big lock, and on the way, after the dirty
 * bitmap has been read, tcg_log_global_after_sync() (softmmu/physmem.c) calls run_on_cpu(), which
 * waits with pthread_cond_wait() on the big lock as if it held it. Waiting with a mutex of another
 * thread unlocks it under that thread's feet; sooner or later everything hangs. pthread_cond_wait()
 * below takes such a mutex first and gives it back afterwards, which is what the caller should have
 * done. The wake-up may come between QEMU's unlocked test of its condition and our lock, so that
 * this wait is a short one: a spurious return is allowed by POSIX, and QEMU tests its condition
 * again.
 *
 * 2. Before QEMU 9.0: guest stores are missing from the dirty bitmap, and the secondary's memory
 * rots. A store to a clean page goes through a slow path that marks the page dirty, and the vCPU's
 * TLB then lets further stores through directly. cpu_physical_memory_sync_dirty_bitmap() cleared
 * the dirty bits and left the TLB as it was, so that further stores to the page went unseen.
 * Upstream's fix is the commit "physmem: Fix migration dirty bitmap coherency with TCG memory
 * access": it resets the TLB there. That function is inlined in the binary, but right after it each
 * vCPU is given work (by the run_on_cpu() of above) and kicked, which begins with a
 * pthread_cond_broadcast() in the thread that migrates. pthread_cond_broadcast() below has each
 * vCPU flush its TLB before that kick: the flush is queued before the kick and before the migration
 * reads a page, and done before the vCPU runs on.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define EXPORTED __attribute__((visibility("default")))

/* How long a wait on a mutex that the caller does not hold may last before QEMU looks again. */
enum { UNOWNED_WAIT_NS = 1000 * 1000 };

typedef struct CPUState CPUState;

static int (*real_wait)(pthread_cond_t*, pthread_mutex_t*);
static int (*real_broadcast)(pthread_cond_t*);

/* QEMU's own symbols; it exports them for its loadable modules. All NULL in any other program. */
static const bool* tcg_allowed;
static const unsigned*
    global_dirty_tracking; /* non-zero while a migration logs dirty pages; from 6.1 on */
static CPUState* (*get_cpu)(int index);
static void (*flush_tlb)(CPUState*);
static bool (*in_vcpu_thread)(void);
static bool before_9_0;

/* ISO C has no cast from an object pointer to a function pointer; POSIX wants it done this way. */
static void find(void* function, const char* name) {
  *(void**)function = dlsym(RTLD_DEFAULT, name);
}

/* The plain name can yield a condition variable interface of glibc's that is older than QEMU's. */
static void find_real(void* function, const char* name) {
  *(void**)function = dlvsym(RTLD_NEXT, name, "GLIBC_2.3.2");
  if (!*(void**)function) *(void**)function = dlsym(RTLD_NEXT, name);
}

__attribute__((constructor)) static void resolve(void) {
  find_real(&real_broadcast, "pthread_cond_broadcast");
  find_real(&real_wait, "pthread_cond_wait");
  tcg_allowed = dlsym(RTLD_DEFAULT, "tcg_allowed");
  global_dirty_tracking = dlsym(RTLD_DEFAULT, "global_dirty_tracking");
  find(&get_cpu, "qemu_get_cpu");
  find(&flush_tlb, "tlb_flush");
  find(&in_vcpu_thread, "qemu_in_vcpu_thread");
  /* 9.0 renamed this function. The flush must not be done from there on: it is not needed, and
   * later tlb_flush() came to act at once, which only the vCPU's own thread may. */
  before_9_0 = dlsym(RTLD_DEFAULT, "qemu_mutex_iothread_locked") != NULL;
}

static bool is_tcg(void) {
  return tcg_allowed && *tcg_allowed;
}

static pid_t thread_id(void) {
  static __thread pid_t id;
  if (!id) id = (pid_t)syscall(SYS_gettid);
  return id;
}

EXPORTED int pthread_cond_wait(pthread_cond_t* cond, pthread_mutex_t* mutex) {
  /* Constructors of other libraries may come here before ours has run. */
  if (!real_wait) resolve();
  if (!is_tcg() || mutex->__data.__owner == thread_id()) return real_wait(cond, mutex);

  struct timespec until;
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_nsec += UNOWNED_WAIT_NS;
  if (until.tv_nsec >= 1000000000) {
    until.tv_nsec -= 1000000000;
    ++until.tv_sec;
  }
  pthread_mutex_lock(mutex);
  /* Names the clock, for QEMU's condition variables were made for different ones in different
   * versions. */
  (void)pthread_cond_clockwait(cond, mutex, CLOCK_MONOTONIC, &until);
  pthread_mutex_unlock(mutex);
  return 0;
}

static bool must_flush(void) {
  return before_9_0 && is_tcg() && get_cpu && flush_tlb && in_vcpu_thread &&
         (!global_dirty_tracking || *global_dirty_tracking != 0) &&
         /* Neither QEMU's main thread nor a vCPU ever reads the dirty bitmap for a migration. */
         thread_id() != getpid() && !in_vcpu_thread();
}

EXPORTED int pthread_cond_broadcast(pthread_cond_t* cond) {
  static __thread bool
      flushing; /* to queue the flush, tlb_flush() kicks the vCPU, which comes here */
  if (!real_broadcast) resolve();
  if (!flushing && must_flush()) {
    CPUState* cpu;
    flushing = true;
    for (int index = 0; (cpu = get_cpu(index)) != NULL; ++index) flush_tlb(cpu);
    flushing = false;
  }
  return real_broadcast(cond);
}
