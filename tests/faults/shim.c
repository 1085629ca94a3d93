/* Preloaded, it looks for file operations that change something under a folder, and
 * lets the n-th of a name kill the process, be torn, or fail. TensorStore writes from C++, so
 * that nothing in Python sees these.
 *
 *   cc -shared -fPIC -o shim.so shim.c -ldl -lrt
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { COUNT, KILL, TEAR, FAIL, FAIL_ON, SIGNAL, JUMP };

static char folder[PATH_MAX], pattern[PATH_MAX];
static size_t folder_length;
static atomic_long count, matches;
static atomic_int has_begun;
static long target;
static double delay;
static int mode, error, log_fd = -1;
static atomic_long jump; /* seconds that are added to the time of day */

/* Dies as by kill -9, `delay` seconds of this process's own time later. */
static void die(void) {
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL};
  struct itimerspec when = {.it_value = {delay, (delay - (long)delay) * 1e9}};
  timer_t timer;
  if (delay <= 0 || timer_create(CLOCK_PROCESS_CPUTIME_ID, &event, &timer) ||
      timer_settime(timer, 0, &when, NULL))
    syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
}

/* Starts to watch operations under `path`; the fault happens at number `n`, from 1 on,
 * of those that fit `names`, such as "mkdir checkpoints" or "write*". 0 is now. */
void shim_arm(const char *path, const char *names, long n, int fault, int number,
              double seconds, int log) {
  snprintf(folder, sizeof folder, "%s", path);
  snprintf(pattern, sizeof pattern, "%s", names);
  target = n, mode = fault, error = number, delay = seconds, log_fd = log;
  atomic_store(&count, 0), atomic_store(&matches, 0), atomic_store(&has_begun, 0);
  folder_length = strlen(folder);
  if (mode == KILL && n == 0) die();
}

/* Finds the whole path into `full`, of 2 * PATH_MAX. */
static int is_inside(int dir, const char *path, char *full) {
  *full = 0;
  if (!folder_length || (!path && dir < 0)) return 0;
  if (!path || path[0] != '/') {
    char link[64];
    if (dir == AT_FDCWD)
      snprintf(link, sizeof link, "/proc/self/cwd");
    else
      snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
    ssize_t n = readlink(link, full, PATH_MAX);
    if (n <= 0) return 0;
    full[n] = 0;
    if (path) {
      strcat(full, "/");
      strncat(full, path, PATH_MAX - 1);
    }
  } else {
    strncat(full, path, PATH_MAX - 1);
  }
  return !strncmp(full, folder, folder_length) &&
         (full[folder_length] == '/' || !full[folder_length]);
}

/* Returns 1 if this operation shall fail, with errno set, and 2 if it is to be torn. */
static int is_hit(const char *name, int dir, const char *path) {
  int before = errno;
  char full[2 * PATH_MAX];
  if (!is_inside(dir, path, full)) {
    errno = before;
    return 0;
  }
  char line[2 * PATH_MAX + 64];
  long n = atomic_fetch_add(&count, 1) + 1;
  if (log_fd >= 0) {
    int size = snprintf(line, sizeof line, "%ld %s %s\n", n, name, full);
    syscall(SYS_write, log_fd, line, size);
  }
  const char *below = full + folder_length;
  snprintf(line, sizeof line, "%s %s", name, *below ? below + 1 : below);
  int is_target = !fnmatch(pattern, line, 0) && atomic_fetch_add(&matches, 1) + 1 == target;
  errno = before;
  /* Room runs out for what needs some; to delete does not. */
  int frees = !strncmp(name, "unlink", 6) || !strcmp(name, "rmdir");
  if (!is_target && !(mode == FAIL_ON && atomic_load(&has_begun) && !frees)) return 0;
  atomic_store(&has_begun, 1);
  if (mode == KILL) die();
  if (mode == TEAR) return 2;
  if (mode == SIGNAL) syscall(SYS_kill, syscall(SYS_getpid), error);
  if (mode == JUMP) atomic_store(&jump, (long)delay);
  if (mode == FAIL || mode == FAIL_ON) {
    errno = error;
    return 1;
  }
  return 0;
}

#define REAL(type, name, ...) \
  static type (*real)(__VA_ARGS__); \
  if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name);

#define HIT(name, dir, path) \
  switch (is_hit(name, dir, path)) { \
    case 1: return -1; \
    case 2: die(); \
  }

#define CHANGES(flags) ((flags) & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC))

#define OPEN(function) \
  int function(const char *path, int flags, ...) { \
    va_list list; \
    va_start(list, flags); \
    mode_t bits = va_arg(list, mode_t); \
    va_end(list); \
    REAL(int, function, const char *, int, ...) \
    if (CHANGES(flags)) HIT("open", AT_FDCWD, path) \
    return real(path, flags, bits); \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(function) \
  int function(int dir, const char *path, int flags, ...) { \
    va_list list; \
    va_start(list, flags); \
    mode_t bits = va_arg(list, mode_t); \
    va_end(list); \
    REAL(int, function, int, const char *, int, ...) \
    if (CHANGES(flags)) HIT("openat", dir, path) \
    return real(dir, path, flags, bits); \
  }
OPENAT(openat)
OPENAT(openat64)

int clock_gettime(clockid_t clock, struct timespec *now) {
  REAL(int, clock_gettime, clockid_t, struct timespec *)
  int result = real(clock, now);
  if (!result && clock == CLOCK_REALTIME) now->tv_sec += atomic_load(&jump);
  return result;
}

ssize_t write(int fd, const void *data, size_t size) {
  REAL(ssize_t, write, int, const void *, size_t)
  switch (is_hit("write", fd, NULL)) {
    case 1: return -1;
    case 2: real(fd, data, size / 2), die();
  }
  return real(fd, data, size);
}

#define PWRITE(function, offset_type) \
  ssize_t function(int fd, const void *data, size_t size, offset_type at) { \
    REAL(ssize_t, function, int, const void *, size_t, offset_type) \
    switch (is_hit("pwrite", fd, NULL)) { \
      case 1: return -1; \
      case 2: real(fd, data, size / 2, at), die(); \
    } \
    return real(fd, data, size, at); \
  }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

ssize_t writev(int fd, const struct iovec *parts, int number) {
  REAL(ssize_t, writev, int, const struct iovec *, int)
  HIT("writev", fd, NULL)
  return real(fd, parts, number);
}

ssize_t copy_file_range(int from, off64_t *a, int to, off64_t *b, size_t n,
                        unsigned flags) {
  REAL(ssize_t, copy_file_range, int, off64_t *, int, off64_t *, size_t, unsigned)
  HIT("copy_file_range", to, NULL)
  return real(from, a, to, b, n, flags);
}

#define ON_FD(function) \
  int function(int fd) { \
    REAL(int, function, int) \
    HIT(#function, fd, NULL) \
    return real(fd); \
  }
ON_FD(fsync)
ON_FD(fdatasync)

#define TRUNCATE(function, offset_type) \
  int function(int fd, offset_type size) { \
    REAL(int, function, int, offset_type) \
    HIT("ftruncate", fd, NULL) \
    return real(fd, size); \
  }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

#define ON_PATH(function) \
  int function(const char *path) { \
    REAL(int, function, const char *) \
    HIT(#function, AT_FDCWD, path) \
    return real(path); \
  }
ON_PATH(unlink)
ON_PATH(rmdir)

int unlinkat(int dir, const char *path, int flags) {
  REAL(int, unlinkat, int, const char *, int)
  HIT("unlinkat", dir, path)
  return real(dir, path, flags);
}

int mkdir(const char *path, mode_t bits) {
  REAL(int, mkdir, const char *, mode_t)
  HIT("mkdir", AT_FDCWD, path)
  return real(path, bits);
}

int mkdirat(int dir, const char *path, mode_t bits) {
  REAL(int, mkdirat, int, const char *, mode_t)
  HIT("mkdirat", dir, path)
  return real(dir, path, bits);
}

#define TWO_PATHS(function) \
  int function(const char *from, const char *to) { \
    REAL(int, function, const char *, const char *) \
    HIT(#function, AT_FDCWD, to) \
    return real(from, to); \
  }
TWO_PATHS(rename)
TWO_PATHS(link)
TWO_PATHS(symlink)

int renameat(int a, const char *from, int b, const char *to) {
  REAL(int, renameat, int, const char *, int, const char *)
  HIT("renameat", b, to)
  return real(a, from, b, to);
}

int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
  REAL(int, renameat2, int, const char *, int, const char *, unsigned)
  HIT("renameat2", b, to)
  return real(a, from, b, to, flags);
}
