#include "runtime/base/program.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char self[] = "/proc/self/exe";

/* What launch/bundle_start.c left under `name`; NULL when this program was not started by it but
 * by one that was. */
static const char *from_bundle(const char *name)
{
    char path[PATH_MAX];
    ssize_t length = readlink(self, path, sizeof path - 1);
    if (length < 0) return NULL;
    path[length] = '\0';
    const char *file = strrchr(path, '/');
    if (!file || strncmp(file, "/ld-", 4) != 0) return NULL;
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

const char *program_file(void)
{
    const char *bundled = from_bundle("WEFT_PROGRAM");
    return bundled ? bundled : self;
}

bool program_command(char *path, size_t size)
{
    const char *bundled = from_bundle("WEFT_STARTER");
    if (bundled) {
        int length = snprintf(path, size, "%s", bundled);
        if (length >= 0 && (size_t)length < size) return true;
        errno = ENAMETOOLONG;
        return false;
    }
    ssize_t length = readlink(self, path, size);
    if (length < 0) return false;
    if ((size_t)length >= size) {
        errno = ENAMETOOLONG;
        return false;
    }
    path[length] = '\0';
    return true;
}
