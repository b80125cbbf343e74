/*
 * Starts a program of a bundle (see launch/bundle) on a machine that has none of its libraries.
 *
 * It is linked statically and lies in the bundle under the name of every program, as one file with
 * many names. Started as ROOT/bin/weft it runs ROOT/libexec/bin/weft with the libraries in
 * ROOT/lib, and tells Open MPI where in ROOT its parts are, so that daemons and ranks, here and on
 * other hosts, come from the bundle as well.
 *
 * The C library is the machine's own when that is new enough for the bundle, as it is what the
 * machine's NVIDIA driver was made for. Where it is older, or there is none (another C library, an
 * empty container), the bundle's own one is taken: newer C libraries run what was linked with older
 * ones, so libcuda.so of such a machine works with it. WEFT_LIBC=host or bundle decides instead.
 *
 * Rejected: LD_LIBRARY_PATH, which mpirun would hand on to ssh and every other program of the
 * machine. The loader's --library-path reaches one program alone. What LD_LIBRARY_PATH holds is
 * still searched, after the bundle's libraries: drivers in containers are found that way.
 */
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__x86_64__)
#define HOST_LOADER "/lib64/ld-linux-x86-64.so.2"
#elif defined(__aarch64__)
#define HOST_LOADER "/lib/ld-linux-aarch64.so.1"
#else
#error "the path of the dynamic loader on this processor"
#endif

enum { START_FAILED = 127, ROOM = 4 * PATH_MAX };

/* The one exit: a program that cannot be started has nothing to undo. */
static void give_up(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
static void give_up(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "weft bundle: ");
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
    exit(START_FAILED);
}

static const char *text(char *room, size_t size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static const char *text(char *room, size_t size, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(room, size, format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length >= size) give_up("a path is too long: %.200s...", room);
    return room;
}

/* The file that was started: not where a symbolic link to it lies. */
static void find_self(char self[PATH_MAX])
{
    ssize_t length = readlink("/proc/self/exe", self, PATH_MAX - 1);
    if (length > 0) {
        self[length] = '\0';
        return;
    }
    const char *started = (const char *)getauxval(AT_EXECFN);
    if (!started || !realpath(started, self)) give_up("/proc is not mounted");
}

/* Finds the nearest folder above `self` that has the program: ROOT with ROOT/libexec/REST. */
static void find_root(const char *self, char root[PATH_MAX], char program[ROOM])
{
    size_t length = strlen(self);
    while (length > 0) {
        while (length > 0 && self[length - 1] != '/') {
            length--;
        }
        if (length == 0) break;
        text(root, PATH_MAX, "%.*s", (int)(length - 1), self);
        text(program, ROOM, "%s/libexec/%s", root, self + length);
        if (access(program, X_OK) == 0) return;
        length--;
    }
    give_up("%s: there is no libexec folder with this program above it; unpack the whole bundle",
            self);
}

static void set(const char *name, const char *format, const char *root)
{
    char value[ROOM];
    if (setenv(name, text(value, sizeof value, format, root), 1) != 0) give_up("out of memory");
}

static bool is_in_path(const char *path, const char *program)
{
    char file[ROOM];
    while (*path) {
        size_t length = strcspn(path, ":");
        if (length > 0 && length < PATH_MAX) {
            text(file, sizeof file, "%.*s/%s", (int)length, path, program);
            if (access(file, X_OK) == 0) return true;
        }
        path += length + (path[length] == ':');
    }
    return false;
}

/* Says to Open MPI, PMIx and hwloc where they are; values of another installation would mislead
 * them. */
static void set_environment(const char *root, const char *self, const char *program)
{
    static const char *const rows[][2] = {
        {"OPAL_PREFIX", "%s"},
        {"OPAL_BINDIR", "%s/bin"},
        {"OPAL_LIBDIR", "%s/lib"},
        {"OPAL_PKGLIBDIR", "%s/lib/openmpi"},
        {"OPAL_DATADIR", "%s/share"},
        {"OPAL_PKGDATADIR", "%s/share/openmpi"},
        {"OPAL_SYSCONFDIR", "%s/etc"},
        {"PMIX_PREFIX", "%s"},
        {"PMIX_LIBDIR", "%s/lib"},
        {"PMIX_PKGLIBDIR", "%s/lib/pmix"},
        {"PMIX_PKGDATADIR", "%s/share/pmix"},
        {"PMIX_SYSCONFDIR", "%s/etc"},
        {"HWLOC_PLUGINS_PATH", "%s/lib/hwloc"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        set(rows[i][0], rows[i][1], root);
    }
    set("WEFT_STARTER", "%s", self);
    set("WEFT_PROGRAM", "%s", program);
    /* Programs look for mpirun and orted in PATH. */
    const char *path = getenv("PATH");
    if (!path || !*path) path = "/usr/local/bin:/usr/bin:/bin";
    char bin[ROOM];
    size_t length = strlen(text(bin, sizeof bin, "%s/bin", root));
    /* mpirun refuses to work without ssh, one host or many, unless it is told that there is none.
     */
    if (!getenv("OMPI_MCA_plm_rsh_agent") && !is_in_path(path, "ssh") && !is_in_path(path, "rsh")) {
        set("OMPI_MCA_plm_rsh_agent", "%s", "");
    }
    if (strncmp(path, bin, length) == 0 && (path[length] == ':' || !path[length])) return;
    size_t size = length + strlen(path) + 2;
    char *all = malloc(size);
    if (!all) give_up("out of memory");
    text(all, size, "%s:%s", bin, path);
    if (setenv("PATH", all, 1) != 0) give_up("out of memory");
    free(all);
}

/* What the loader searches: the bundle, then what the user or a container says, then where CUDA's
 * libraries and driver are when the loader's own list does not have them. */
static char *library_path(const char *root, bool with_libc)
{
    static const char *const further[] = {
        "/usr/local/nvidia/lib64",
        "/usr/local/nvidia/lib",
        "/usr/lib/wsl/lib",
        "/usr/local/cuda/lib64",
    };
    const char *user = getenv("LD_LIBRARY_PATH");
    size_t size = 2 * strlen(root) + (user ? strlen(user) : 0) + 512;
    char *path = malloc(size);
    if (!path) give_up("out of memory");
    text(path, size, "%s/lib", root);
    if (with_libc) text(path, size, "%s/lib:%s/libc", root, root);
    if (user && *user) {
        strcat(path, ":");
        strcat(path, user);
    }
    for (size_t i = 0; i < sizeof further / sizeof further[0]; i++) {
        if (access(further[i], X_OK) != 0) continue;
        strcat(path, ":");
        strcat(path, further[i]);
    }
    return path;
}

/* Whether the machine's C library has all that the bundle asks for: a program that needs the
 * newest of it is run. */
static bool host_is_new_enough(const char *root)
{
    char check[ROOM];
    if (access(HOST_LOADER, X_OK) != 0) return false;
    text(check, sizeof check, "%s/libexec/libc-check", root);
    pid_t child = fork();
    if (child < 0) give_up("cannot start a process: %s", strerror(errno));
    if (child == 0) {
        /* What the loader says of missing versions is the answer, not a message. */
        if (freopen("/dev/null", "w", stderr) == NULL) _exit(START_FAILED);
        execl(HOST_LOADER, HOST_LOADER, check, (char *)NULL);
        _exit(START_FAILED);
    }
    int status = 1;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool choose_host(const char *root)
{
    const char *choice = getenv("WEFT_LIBC");
    if (!choice || !*choice) return host_is_new_enough(root);
    if (strcmp(choice, "host") == 0) return true;
    if (strcmp(choice, "bundle") != 0) give_up("WEFT_LIBC is '%s', not host or bundle", choice);
    return false;
}

int main(int argc, char **argv)
{
    char self[PATH_MAX];
    char root[PATH_MAX];
    char program[ROOM];
    char loader[ROOM] = HOST_LOADER;
    find_self(self);
    find_root(self, root, program);
    bool host = choose_host(root);
    if (!host) text(loader, sizeof loader, "%s/libc/%s", root, strrchr(HOST_LOADER, '/') + 1);
    set_environment(root, self, program);
    char **arguments = calloc((size_t)argc + 6, sizeof *arguments);
    if (!arguments) give_up("out of memory");
    int count = 0;
    arguments[count++] = loader;
    arguments[count++] = "--library-path";
    arguments[count++] = library_path(root, !host);
    /* mpirun starts its daemons from where it says it was started. */
    arguments[count++] = "--argv0";
    arguments[count++] = self;
    arguments[count++] = program;
    for (int i = 1; i < argc; i++) {
        arguments[count++] = argv[i];
    }
    execv(loader, arguments);
    give_up("%s: %s", loader, strerror(errno));
}
