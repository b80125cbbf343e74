/* The folder of checkpoints: what dead jobs left, `latest`, and old files. For rank 0. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/file_io.h"
#include "runtime/base/log.h"
#include "runtime/checkpoint/save_impl.h"

enum status save_folder_latest(const char *folder, int64_t step)
{
    char path[PATH_MAX];
    char name[CHECKPOINT_FOLDER_NAME_MAX];
    char line[sizeof name + 1];
    checkpoint_file_name(step, name);
    int length = snprintf(line, sizeof line, "%s\n", name);
    snprintf(path, sizeof path, "%s/latest", folder);
    return file_replace(path, line, length);
}

enum status save_folder_thin(const char *folder, int64_t step, int64_t keep, int64_t keep_every)
{
    if (keep <= 0) return STATUS_OK;
    int64_t *steps;
    int64_t count;
    TRY(checkpoint_folder_list(folder, &steps, &count));
    enum status status = STATUS_OK;
    int64_t kept = 0;
    for (int64_t i = 0; i < count; i++) {
        if (steps[i] > step || kept++ < keep) continue;
        if (keep_every > 0 && steps[i] % keep_every == 0) continue;
        char name[CHECKPOINT_FOLDER_NAME_MAX];
        char path[PATH_MAX];
        checkpoint_file_name(steps[i], name);
        snprintf(path, sizeof path, "%s/%s", folder, name);
        if (unlink(path) != 0) {
            status = status_fail(STATUS_IO, "%s: cannot remove the old checkpoint: %s", path,
                                 strerror(errno));
        }
    }
    free(steps);
    return status;
}

/* ---- the start ---- */

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text);
    size_t tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

/* Removes what a dead writer left, and sets aside files of later steps than the one resumed. */
static enum status clean_entry(const char *folder, int64_t resumed_step, const char *name)
{
    char path[PATH_MAX + 256];
    char aside[sizeof path + 8];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    bool is_ours = strncmp(name, "step-", 5) == 0 || strncmp(name, "latest", 6) == 0;
    if (is_ours && ends_with(name, ".tmp")) {
        CHECK(unlink(path) == 0, STATUS_IO, "%s: cannot remove what a dead job left: %s", path,
              strerror(errno));
        log_info("%s: removed; the job that wrote it died before it was complete", path);
        return STATUS_OK;
    }
    int64_t step;
    if (resumed_step < 0 || !checkpoint_file_step(name, &step) || step <= resumed_step) {
        return STATUS_OK;
    }
    snprintf(aside, sizeof aside, "%s.aside", path);
    CHECK(rename(path, aside) == 0, STATUS_IO, "cannot rename %s to %s: %s", path, aside,
          strerror(errno));
    log_warning("%s: renamed to *.aside, because this run continues from step %" PRId64
                " without it",
                path, resumed_step);
    return STATUS_OK;
}

static enum status clean_folder(const char *folder, int64_t resumed_step)
{
    DIR *directory = opendir(folder);
    CHECK(directory, STATUS_IO, "%s: cannot list the folder: %s", folder, strerror(errno));
    enum status status = STATUS_OK;
    for (struct dirent *entry; status == STATUS_OK && (entry = readdir(directory));) {
        status = clean_entry(folder, resumed_step, entry->d_name);
    }
    closedir(directory);
    return status;
}

/* `latest` names the newest file again, or goes with the last one. */
static enum status mend_latest(const char *folder)
{
    int64_t *steps;
    int64_t count;
    TRY(checkpoint_folder_list(folder, &steps, &count));
    enum status status = STATUS_OK;
    if (count > 0) {
        status = save_folder_latest(folder, steps[0]);
    } else {
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%s/latest", folder);
        (void)unlink(path);
    }
    free(steps);
    return status;
}

enum status save_folder_prepare(const char *folder, int64_t resumed_step)
{
    char path[PATH_MAX];
    for (const char *slash = strchr(folder + 1, '/');; slash = strchr(slash + 1, '/')) {
        size_t length = slash ? (size_t)(slash - folder) : strlen(folder);
        memcpy(path, folder, length);
        path[length] = '\0';
        if (mkdir(path, 0777) != 0 && errno != EEXIST) {
            int error = errno;
            status_fail(STATUS_IO, "%s: cannot make the folder: %s", path, strerror(error));
            return save_explain(STATUS_IO, error);
        }
        if (!slash) break;
    }
    if (access(folder, W_OK) != 0) {
        int error = errno;
        status_fail(STATUS_IO, "%s: cannot write there: %s", folder, strerror(error));
        return save_explain(STATUS_IO, error);
    }
    TRY(clean_folder(folder, resumed_step));
    return resumed_step >= 0 ? mend_latest(folder) : STATUS_OK;
}
