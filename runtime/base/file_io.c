#include "runtime/base/file_io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum status file_read_at(int file, const char *path, void *bytes, int64_t size, int64_t offset)
{
    int64_t done = 0;
    while (done < size) {
        ssize_t got = pread(file, (char *)bytes + done, (size_t)(size - done), offset + done);
        if (got < 0 && errno == EINTR) continue;
        CHECK(got >= 0, STATUS_IO, "%s: cannot read %lld bytes at %lld: %s", path, (long long)size,
              (long long)offset, strerror(errno));
        CHECK(got > 0, STATUS_IO,
              "%s: the file ends at %lld and should hold %lld bytes at %lld: it was cut short; "
              "copy or make it again",
              path, (long long)(offset + done), (long long)size, (long long)offset);
        done += got;
    }
    return STATUS_OK;
}

enum status file_write_at(int file, const char *path, const void *bytes, int64_t size,
                          int64_t offset)
{
    int64_t done = 0;
    while (done < size) {
        ssize_t put =
            pwrite(file, (const char *)bytes + done, (size_t)(size - done), offset + done);
        if (put < 0 && errno == EINTR) continue;
        CHECK(put > 0, STATUS_IO, "%s: cannot write: %s", path,
              put < 0 ? strerror(errno) : "no space");
        done += put;
    }
    return STATUS_OK;
}

enum status file_sync(int file, const char *path)
{
    CHECK(fsync(file) == 0, STATUS_IO, "%s: cannot flush to the disk: %s", path, strerror(errno));
    return STATUS_OK;
}

enum status file_sync_folder(const char *path)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t length = slash ? (size_t)(slash - path) + 1 : 0;
    CHECK(length + 2 <= sizeof folder, STATUS_INVALID, "%s: the path is too long", path);
    memcpy(folder, path, length);
    memcpy(folder + length, ".", 2);
    int directory = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(directory >= 0, STATUS_IO, "%s: cannot open: %s", folder, strerror(errno));
    /* Some network file systems refuse to flush a directory; what was done in it is done. */
    int synced = fsync(directory);
    int error = errno;
    close(directory);
    CHECK(synced == 0 || error == EINVAL || error == ENOTSUP, STATUS_IO,
          "%s: cannot flush to the disk: %s", folder, strerror(error));
    return STATUS_OK;
}

enum status file_rename(const char *from, const char *to)
{
    CHECK(rename(from, to) == 0, STATUS_IO, "cannot rename %s to %s: %s", from, to,
          strerror(errno));
    return file_sync_folder(to);
}

enum status file_replace(const char *path, const void *bytes, int64_t size)
{
    char temporary[PATH_MAX];
    int length = snprintf(temporary, sizeof temporary, "%s.tmp", path);
    CHECK(length < (int)sizeof temporary, STATUS_INVALID, "%s: the path is too long", path);
    int file = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    CHECK(file >= 0, STATUS_IO, "%s: cannot create: %s", temporary, strerror(errno));
    enum status status = file_write_at(file, temporary, bytes, size, 0);
    if (status == STATUS_OK) status = file_sync(file, temporary);
    close(file);
    if (status == STATUS_OK) status = file_rename(temporary, path);
    if (status != STATUS_OK) (void)unlink(temporary);
    return status;
}
