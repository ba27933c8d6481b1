/*
 * Sees every change that a process makes to the files below one directory, and writes it to a trace in order.
 *
 * Built by the tests and preloaded into a child. It changes no outcome, but for the syncs that it is told to fail.
 *   VIGIL_SHIM_DIR    the directory, as an absolute path without links
 *   VIGIL_SHIM_TRACE  the trace, outside of it
 *   VIGIL_SHIM_FAIL   "NAME:N": the Nth sync of files of this name, and no other, fails with EIO
 *   VIGIL_SHIM_LATE   if it is set, that one fails only once all other threads sleep: whoever waits for it does so by then
 * One lock is held over each call and its record, so that the order of records is the order of effects: a write is
 * recorded before it is made, a sync after.
 *
 * Every call of the C library that changes a file, a name or the durability of either is modelled, or recorded as one that
 * is not, and then the trace is refused. What goes round the C library is not seen: of what Vigil is made of only rustix
 * does, and of that Vigil uses statvfs and flock on the directory, which change nothing.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum kind { CREATE = 1, WRITE, TRUNCATE, SYNC, SYNC_DIR, RENAME, UNLINK, MKDIR, SYNC_FAILED, UNKNOWN };

struct head {
    uint32_t kind;
    uint32_t path_bytes;
    uint64_t file;
    uint64_t offset;
    uint64_t data_bytes;
};

#define FDS 4096
static struct { char *path; uint64_t file; } open_files[FDS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int trace = -1;
static char dir[PATH_MAX];
static size_t dir_bytes;
static char fail_name[256];
static long fail_number, syncs_of_name;
static int fails_late;

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static void start(void) {
    static int started;
    if (started) return;
    started = 1;
    const char *from = getenv("VIGIL_SHIM_DIR"), *to = getenv("VIGIL_SHIM_TRACE"), *fail = getenv("VIGIL_SHIM_FAIL");
    if (!from || !to) return;
    int (*real_open)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");
    snprintf(dir, sizeof dir, "%s", from);
    dir_bytes = strlen(dir);
    trace = real_open(to, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (trace < 0) abort();
    fails_late = getenv("VIGIL_SHIM_LATE") != NULL;
    if (fail && sscanf(fail, "%255[^:]:%ld", fail_name, &fail_number) != 2) abort();
}

static int inside(const char *path) {
    start();
    return trace >= 0 && path && strncmp(path, dir, dir_bytes) == 0 && (path[dir_bytes] == '/' || !path[dir_bytes]);
}

static void record(enum kind kind, const char *path, uint64_t file, uint64_t offset, const void *data, size_t bytes) {
    ssize_t (*real_writev)(int, const struct iovec *, int) =
        (ssize_t(*)(int, const struct iovec *, int))dlsym(RTLD_NEXT, "writev");
    struct head head = { kind, path ? strlen(path) : 0, file, offset, bytes };
    struct iovec parts[3] = { { &head, sizeof head }, { (void *)path, head.path_bytes }, { (void *)data, bytes } };
    ssize_t all = sizeof head + head.path_bytes + bytes;
    int saved = errno;
    if (real_writev(trace, parts, 3) != all) abort();
    errno = saved;
}

static const char *path_of(int fd) {
    return fd >= 0 && fd < FDS ? open_files[fd].path : NULL;
}

static void known(int fd, const char *path) {
    struct stat stat;
    if (fd < 0) return;
    if (fd >= FDS || fstat(fd, &stat)) abort();
    free(open_files[fd].path);
    open_files[fd].path = strdup(path);
    open_files[fd].file = stat.st_ino;
}

static void opened(int fd, const char *path, int flags, int was_there) {
    struct stat stat;
    if (fd < 0) return;
    known(fd, path);
    if (fstat(fd, &stat) || S_ISDIR(stat.st_mode)) return;
    if (!was_there) record(CREATE, path, stat.st_ino, 0, NULL, 0);
    else if (flags & O_TRUNC) record(TRUNCATE, path, stat.st_ino, 0, NULL, 0);
    if (flags & O_APPEND) record(UNKNOWN, path, stat.st_ino, 0, NULL, 0);
}

static int open_any(int at, const char *path, int flags, mode_t mode) {
    REAL(openat64);
    char full[PATH_MAX];
    const char *name = path;
    if (at != AT_FDCWD && path[0] != '/' && path_of(at)) {
        if ((size_t)snprintf(full, sizeof full, "%s/%s", path_of(at), path) >= sizeof full) abort();
        name = full;
    }
    if (!inside(name)) return real(at, path, flags, mode);
    pthread_mutex_lock(&lock);
    int was_there = access(name, F_OK) == 0;
    int fd = real(at, path, flags, mode);
    opened(fd, name, flags, was_there);
    pthread_mutex_unlock(&lock);
    return fd;
}

#define MODE(flags, last) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | __O_TMPFILE)) { va_list rest; va_start(rest, last); mode = va_arg(rest, mode_t); va_end(rest); }

int open(const char *path, int flags, ...) { MODE(flags, flags) return open_any(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags, flags) return open_any(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags, flags) return open_any(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags, flags) return open_any(at, path, flags, mode); }
int creat(const char *path, mode_t mode) { return open_any(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

int close(int fd) {
    REAL(close);
    pthread_mutex_lock(&lock);
    if (fd >= 0 && fd < FDS) {
        free(open_files[fd].path);
        open_files[fd].path = NULL;
    }
    int closed = real(fd);
    pthread_mutex_unlock(&lock);
    return closed;
}

/* A second number of an open file would not be known as one. */
#define UNSEEN(fd) if (path_of(fd)) record(UNKNOWN, path_of(fd), open_files[fd].file, 0, NULL, 0)
int dup(int fd) { REAL(dup); UNSEEN(fd); return real(fd); }
int dup2(int fd, int to) { REAL(dup2); UNSEEN(fd); UNSEEN(to); return real(fd, to); }
int dup3(int fd, int to, int flags) { REAL(dup3); UNSEEN(fd); UNSEEN(to); return real(fd, to, flags); }
static int control(int fd, int what, void *with) {
    static int (*real)(int, int, ...);
    if (!real) real = (int (*)(int, int, ...))dlsym(RTLD_NEXT, "fcntl");
    if (what == F_DUPFD || what == F_DUPFD_CLOEXEC) UNSEEN(fd);
    return real(fd, what, with);
}
#define WITH(what) va_list rest; va_start(rest, what); void *with = va_arg(rest, void *); va_end(rest);
int fcntl(int fd, int what, ...) { WITH(what) return control(fd, what, with); }
int fcntl64(int fd, int what, ...) { WITH(what) return control(fd, what, with); }

static ssize_t written(int fd, const void *data, size_t bytes, off64_t offset, int at_offset) {
    static ssize_t (*real_pwrite)(int, const void *, size_t, off64_t);
    static ssize_t (*real_write)(int, const void *, size_t);
    if (!real_pwrite) {
        real_pwrite = (ssize_t(*)(int, const void *, size_t, off64_t))dlsym(RTLD_NEXT, "pwrite64");
        real_write = (ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    }
    if (!path_of(fd)) return at_offset ? real_pwrite(fd, data, bytes, offset) : real_write(fd, data, bytes);
    pthread_mutex_lock(&lock);
    if (!at_offset) offset = lseek64(fd, 0, SEEK_CUR);
    record(WRITE, path_of(fd), open_files[fd].file, offset, data, bytes);
    ssize_t done = at_offset ? real_pwrite(fd, data, bytes, offset) : real_write(fd, data, bytes);
    /* A short write was recorded whole; only a full disk makes one, and no trace is taken on one. */
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t write(int fd, const void *data, size_t bytes) { return written(fd, data, bytes, 0, 0); }
ssize_t pwrite(int fd, const void *data, size_t bytes, off_t offset) { return written(fd, data, bytes, offset, 1); }
ssize_t pwrite64(int fd, const void *data, size_t bytes, off64_t offset) { return written(fd, data, bytes, offset, 1); }

ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(writev);
    if (!path_of(fd)) return real(fd, parts, count);
    ssize_t sum = 0;
    for (int part = 0; part < count; part++) {
        ssize_t done = written(fd, parts[part].iov_base, parts[part].iov_len, 0, 0);
        if (done < 0) return sum ? sum : done;
        sum += done;
        if ((size_t)done < parts[part].iov_len) break;
    }
    return sum;
}

/* Nothing uses these today; a trace with one of them in it is refused, so that nothing is ever overlooked. */
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) {
    REAL(pwritev64);
    UNSEEN(fd);
    return real(fd, parts, count, offset);
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) { return pwritev64(fd, parts, count, offset); }
ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t offset, int flags) {
    REAL(pwritev2);
    UNSEEN(fd);
    return real(fd, parts, count, offset, flags);
}
ssize_t copy_file_range(int from, off64_t *from_at, int fd, off64_t *at, size_t bytes, unsigned int flags) {
    REAL(copy_file_range);
    UNSEEN(fd);
    return real(from, from_at, fd, at, bytes, flags);
}
ssize_t sendfile64(int fd, int from, off64_t *at, size_t bytes) {
    REAL(sendfile64);
    UNSEEN(fd);
    return real(fd, from, at, bytes);
}
ssize_t sendfile(int fd, int from, off_t *at, size_t bytes) { return sendfile64(fd, from, at, bytes); }
ssize_t splice(int from, off64_t *from_at, int fd, off64_t *at, size_t bytes, unsigned int flags) {
    REAL(splice);
    UNSEEN(fd);
    return real(from, from_at, fd, at, bytes, flags);
}
int syncfs(int fd) { REAL(syncfs); UNSEEN(fd); return real(fd); }
int sync_file_range(int fd, off64_t offset, off64_t bytes, unsigned int flags) {
    REAL(sync_file_range);
    UNSEEN(fd);
    return real(fd, offset, bytes, flags);
}
int fallocate64(int fd, int mode, off64_t offset, off64_t bytes) {
    REAL(fallocate64);
    UNSEEN(fd);
    return real(fd, mode, offset, bytes);
}
int fallocate(int fd, int mode, off_t offset, off_t bytes) { return fallocate64(fd, mode, offset, bytes); }
int posix_fallocate64(int fd, off64_t offset, off64_t bytes) {
    REAL(posix_fallocate64);
    UNSEEN(fd);
    return real(fd, offset, bytes);
}
int posix_fallocate(int fd, off_t offset, off_t bytes) { return posix_fallocate64(fd, offset, bytes); }
void *mmap64(void *at, size_t bytes, int prot, int flags, int fd, off64_t offset) {
    REAL(mmap64);
    UNSEEN(fd);
    return real(at, bytes, prot, flags, fd, offset);
}
void *mmap(void *at, size_t bytes, int prot, int flags, int fd, off_t offset) {
    return mmap64(at, bytes, prot, flags, fd, offset);
}

int ftruncate64(int fd, off64_t bytes) {
    REAL(ftruncate64);
    if (!path_of(fd)) return real(fd, bytes);
    pthread_mutex_lock(&lock);
    record(TRUNCATE, path_of(fd), open_files[fd].file, bytes, NULL, 0);
    int done = real(fd, bytes);
    pthread_mutex_unlock(&lock);
    return done;
}
int ftruncate(int fd, off_t bytes) { return ftruncate64(fd, bytes); }

/* Whether every thread but this one sleeps. */
static int others_sleep(void) {
    char path[64], line[512];
    DIR *tasks = opendir("/proc/self/task");
    if (!tasks) abort();
    int all = 1;
    for (struct dirent *task; all && (task = readdir(tasks));) {
        if (task->d_name[0] == '.' || atoi(task->d_name) == gettid()) continue;
        snprintf(path, sizeof path, "/proc/self/task/%.20s/stat", task->d_name);
        FILE *stat = fopen(path, "r");
        /* One that has ended meanwhile. */
        if (!stat) continue;
        /* The state follows the name, which is in parentheses. */
        char *name_end = fgets(line, sizeof line, stat) ? strrchr(line, ')') : NULL;
        all = !name_end || name_end[2] == 'S';
        fclose(stat);
    }
    closedir(tasks);
    return all;
}

/* Several looks, because a thread may sleep for a moment only. */
static void wait_for_others(void) {
    struct timespec pause = { 0, 2000000 };
    for (int looks = 0; looks < 20; looks = others_sleep() ? looks + 1 : 0) nanosleep(&pause, NULL);
}

static int synced(int fd, int (*real)(int)) {
    struct stat stat;
    if (!path_of(fd)) return real(fd);
    pthread_mutex_lock(&lock);
    const char *path = path_of(fd), *name = strrchr(path, '/') + 1;
    int is_dir = !fstat(fd, &stat) && S_ISDIR(stat.st_mode), done;
    if (!is_dir && fail_number && !strcmp(name, fail_name) && ++syncs_of_name == fail_number) {
        if (fails_late) {
            pthread_mutex_unlock(&lock);
            wait_for_others();
            pthread_mutex_lock(&lock);
        }
        record(SYNC_FAILED, path, open_files[fd].file, 0, NULL, 0);
        errno = EIO;
        done = -1;
    } else {
        done = real(fd);
        if (!done) record(is_dir ? SYNC_DIR : SYNC, path, open_files[fd].file, 0, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    return done;
}
int fsync(int fd) { REAL(fsync); return synced(fd, real); }
int fdatasync(int fd) { REAL(fdatasync); return synced(fd, real); }

int rename(const char *from, const char *to) {
    REAL(rename);
    if (!inside(from) && !inside(to)) return real(from, to);
    pthread_mutex_lock(&lock);
    int done = real(from, to);
    if (!done) record(RENAME, from, 0, 0, to, strlen(to));
    pthread_mutex_unlock(&lock);
    return done;
}

/* Names that are changed in other ways; none of these is used. */
#define UNSEEN_NAME(at, path) \
    if (inside(path) || ((path)[0] != '/' && path_of(at))) record(UNKNOWN, path, 0, 0, NULL, 0)
int renameat(int from_at, const char *from, int to_at, const char *to) {
    REAL(renameat);
    UNSEEN_NAME(from_at, from);
    UNSEEN_NAME(to_at, to);
    return real(from_at, from, to_at, to);
}
int renameat2(int from_at, const char *from, int to_at, const char *to, unsigned int flags) {
    REAL(renameat2);
    UNSEEN_NAME(from_at, from);
    UNSEEN_NAME(to_at, to);
    return real(from_at, from, to_at, to, flags);
}
int unlinkat(int at, const char *path, int flags) { REAL(unlinkat); UNSEEN_NAME(at, path); return real(at, path, flags); }
int mkdirat(int at, const char *path, mode_t mode) { REAL(mkdirat); UNSEEN_NAME(at, path); return real(at, path, mode); }
int remove(const char *path) { REAL(remove); UNSEEN_NAME(-1, path); return real(path); }
int link(const char *from, const char *to) { REAL(link); UNSEEN_NAME(-1, to); return real(from, to); }
int linkat(int from_at, const char *from, int to_at, const char *to, int flags) {
    REAL(linkat);
    UNSEEN_NAME(to_at, to);
    return real(from_at, from, to_at, to, flags);
}
int symlink(const char *from, const char *to) { REAL(symlink); UNSEEN_NAME(-1, to); return real(from, to); }
int symlinkat(const char *from, int at, const char *to) { REAL(symlinkat); UNSEEN_NAME(at, to); return real(from, at, to); }
int truncate(const char *path, off_t bytes) { REAL(truncate); UNSEEN_NAME(-1, path); return real(path, bytes); }
int truncate64(const char *path, off64_t bytes) { REAL(truncate64); UNSEEN_NAME(-1, path); return real(path, bytes); }

static int removed(const char *path, int (*real)(const char *)) {
    if (!inside(path)) return real(path);
    pthread_mutex_lock(&lock);
    int done = real(path);
    if (!done) record(UNLINK, path, 0, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    return done;
}

int unlink(const char *path) { REAL(unlink); return removed(path, real); }
int rmdir(const char *path) { REAL(rmdir); return removed(path, real); }

int mkdir(const char *path, mode_t mode) {
    REAL(mkdir);
    if (!inside(path)) return real(path, mode);
    pthread_mutex_lock(&lock);
    int done = real(path, mode);
    if (!done) record(MKDIR, path, 0, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    return done;
}
