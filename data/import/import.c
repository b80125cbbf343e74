#include "data/import/import.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <xxhash.h>

#include "runtime/base/strbuf.h"

extern const struct importer importer_coco, importer_csv, importer_flickr30k, importer_folder,
    importer_jsonl, importer_karpathy, importer_mdetr, importer_nlvr, importer_nlvr2,
    importer_refcoco, importer_scenes, importer_tsv, importer_vqa, importer_webdataset;

const struct importer *const importers[] = {
    &importer_folder,
    &importer_csv,
    &importer_tsv,
    &importer_jsonl,
    &importer_webdataset,
    &importer_coco,
    &importer_karpathy,
    &importer_flickr30k,
    &importer_mdetr,
    &importer_refcoco,
    &importer_vqa,
    &importer_nlvr,
    &importer_nlvr2,
    &importer_scenes,
    NULL, /* one importer a line above this one, in the order in which they are listed */
};

enum { MAX_IMPORTERS = 64 };

enum status importer_find(const char *name, const struct importer **importer)
{
    const char *names[MAX_IMPORTERS] = {0};
    int count = 0;
    struct strbuf list = {0};
    for (; importers[count] && count < MAX_IMPORTERS; count++) {
        if (strcmp(importers[count]->name, name) == 0) {
            *importer = importers[count];
            strbuf_fini(&list);
            return STATUS_OK;
        }
        names[count] = importers[count]->name;
        strbuf_printf(&list, "%s%s", count ? ", " : "", names[count]);
    }
    const char *nearest = string_nearest(name, names, count);
    enum status status =
        status_fail(STATUS_NOT_FOUND, "no format '%s'%s%s%s; the formats are: %s", name,
                    nearest ? "; did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : "",
                    list.text ? list.text : "");
    strbuf_fini(&list);
    return status;
}

const char *import_value(const struct import_args *args, const char *name)
{
    for (int i = 0; args->options && args->options[i].name; i++) {
        if (strcmp(args->options[i].name, name) == 0) return args->values[i];
    }
    return NULL;
}

enum status import_value_int(const struct import_args *args, const char *name, int64_t least,
                             int64_t most, int64_t *value)
{
    const char *text = import_value(args, name);
    CHECK(text, STATUS_INVALID, "--%s needs a value", name);
    char *end = NULL;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    CHECK(end != text && *end == '\0' && errno == 0, STATUS_INVALID, "--%s %s: not a whole number",
          name, text);
    CHECK(number >= least && number <= most, STATUS_INVALID,
          "--%s %s: must be within %lld and %lld", name, text, (long long)least, (long long)most);
    *value = number;
    return STATUS_OK;
}

enum status import_value_bool(const struct import_args *args, const char *name, bool *value)
{
    const char *text = import_value(args, name);
    if (text && (strcmp(text, "yes") == 0 || strcmp(text, "true") == 0)) {
        *value = true;
    } else if (text && (strcmp(text, "no") == 0 || strcmp(text, "false") == 0)) {
        *value = false;
    } else {
        return status_fail(STATUS_INVALID, "--%s %s: must be yes or no", name, text ? text : "");
    }
    return STATUS_OK;
}

uint64_t import_hash(uint64_t seed, const void *bytes, int64_t size)
{
    return XXH64(bytes, (size_t)size, seed);
}

enum status import_hash_file(uint64_t *seed, const char *path)
{
    struct stat info;
    CHECK(stat(path, &info) == 0, errno == ENOENT ? STATUS_NOT_FOUND : STATUS_IO, "%s: %s", path,
          strerror(errno));
    int64_t facts[3] = {info.st_size, info.st_mtim.tv_sec, info.st_mtim.tv_nsec};
    *seed = import_hash(*seed, path, (int64_t)strlen(path));
    *seed = import_hash(*seed, facts, sizeof facts);
    return STATUS_OK;
}
