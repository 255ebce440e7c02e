/* Counts the calls that change files below two folders, and at a chosen one kills the process or fails.

   Loaded by LD_PRELOAD, so that SQLite's own writes are counted too. A write at which the process is killed is torn:
   half of it is done. EIO happens once; a full disk (ENOSPC) stays full for whatever needs more room. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OFF = -2, COUNT = -1, KILL = 0 }; /* above: the errno of a failure */
enum { MAX_FILES = 4096, MAX_PATH = 512 };

static int how = OFF;
static long count, at;
static char folders[2][MAX_PATH], paths[MAX_FILES][MAX_PATH];
static FILE *trace;

#define REAL(name) static __typeof__(&name) real; if (!real) real = dlsym(RTLD_NEXT, #name)

static int watched(const char *path) {
    for (int i = 0; i < 2; i++) {
        size_t length = strlen(folders[i]);
        if (how != OFF && path && length && !strncmp(path, folders[i], length)) return 1;
    }
    return 0;
}

static const char *path_of(int file) {
    return file >= 0 && file < MAX_FILES && paths[file][0] ? paths[file] : NULL;
}

/* 0: go on; 1: this call must fail, with errno set; 2: this call must be torn, and the process killed. */
static int point(const char *name, const char *path, int needs_room) {
    if (!watched(path)) return 0;
    count++;
    if (how == COUNT) {
        if (trace) fprintf(trace, "%s %s\n", name, path), fflush(trace);
        return 0;
    }
    if (how == KILL && count == at) {
        if (!strcmp(name, "write")) return 2;
        kill(getpid(), SIGKILL);
    }
    if (how > 0 && (count == at || (how == ENOSPC && count > at && needs_room))) {
        errno = how;
        return 1;
    }
    return 0;
}

void crash_arm(const char *record, const char *cache, long where, int what, const char *log) {
    snprintf(folders[0], MAX_PATH, "%s", record);
    snprintf(folders[1], MAX_PATH, "%s", cache);
    at = where, how = what, count = 0;
    trace = log ? fopen(log, "w") : NULL;
}

long crash_count(void) { return count; }

static int remember(int file, const char *path) {
    if (file >= 0 && file < MAX_FILES) snprintf(paths[file], MAX_PATH, "%s", watched(path) ? path : "");
    return file;
}

#define OPEN(name)                                                                          \
    int name(const char *path, int flags, ...) {                                            \
        REAL(name);                                                                         \
        va_list more;                                                                       \
        va_start(more, flags);                                                              \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0;           \
        va_end(more);                                                                       \
        if (flags & (O_WRONLY | O_RDWR | O_CREAT) && point("open", path, flags & O_CREAT && access(path, F_OK))) \
            return -1;                                                                      \
        return remember(real(path, flags, mode), path);                                     \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                        \
    int name(int folder, const char *path, int flags, ...) {                                \
        REAL(name);                                                                         \
        va_list more;                                                                       \
        va_start(more, flags);                                                              \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0;           \
        va_end(more);                                                                       \
        if (flags & (O_WRONLY | O_RDWR | O_CREAT) && point("open", path, flags & O_CREAT)) return -1; \
        return remember(real(folder, path, flags, mode), path);                             \
    }
OPENAT(openat)
OPENAT(openat64)

int close(int file) {
    REAL(close);
    if (file >= 0 && file < MAX_FILES) paths[file][0] = 0;
    return real(file);
}

#define WRITE(name, more, last)                                                             \
    ssize_t name more {                                                                     \
        REAL(name);                                                                         \
        int what = point("write", path_of(file), 1);                                        \
        if (what == 1) return -1;                                                           \
        if (what == 2) size /= 2;                                                           \
        ssize_t done = real last;                                                           \
        if (what == 2) kill(getpid(), SIGKILL);                                             \
        return done;                                                                        \
    }
WRITE(write, (int file, const void *data, size_t size), (file, data, size))
WRITE(pwrite, (int file, const void *data, size_t size, off_t place), (file, data, size, place))
WRITE(pwrite64, (int file, const void *data, size_t size, off64_t place), (file, data, size, place))

#define ON_FILE(name, word, more, last)                                                     \
    int name more {                                                                         \
        REAL(name);                                                                         \
        if (point(word, path_of(file), 0)) return -1;                                       \
        return real last;                                                                   \
    }
ON_FILE(fsync, "fsync", (int file), (file))
ON_FILE(fdatasync, "fsync", (int file), (file))
ON_FILE(ftruncate, "truncate", (int file, off_t size), (file, size))
ON_FILE(ftruncate64, "truncate", (int file, off64_t size), (file, size))

#define ON_PATH(name, word, path, room, more, last)                                         \
    int name more {                                                                         \
        REAL(name);                                                                         \
        if (point(word, path, room)) return -1;                                             \
        return real last;                                                                   \
    }
ON_PATH(unlink, "unlink", path, 0, (const char *path), (path))
ON_PATH(unlinkat, "unlink", path, 0, (int folder, const char *path, int flags), (folder, path, flags))
ON_PATH(rmdir, "rmdir", path, 0, (const char *path), (path))
ON_PATH(mkdir, "mkdir", path, 1, (const char *path, mode_t mode), (path, mode))
ON_PATH(rename, "rename", to, 0, (const char *from, const char *to), (from, to))
ON_PATH(renameat, "rename", to, 0, (int here, const char *from, int there, const char *to), (here, from, there, to))
