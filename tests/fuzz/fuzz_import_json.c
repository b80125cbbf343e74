/* The streaming JSON reader: what reads as a tree can be skipped too, whatever the buffer's size.
 * runs=260000
 */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "data/import/json_value.h"

static enum status skip_over(const struct input *input, int64_t buffer)
{
    struct json_reader reader;
    enum status status = json_open(&reader, input, 0, -1, buffer);
    if (status == STATUS_OK) status = json_skip(&reader);
    if (status == STATUS_OK) status = json_finish(&reader);
    json_close(&reader);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1;
    if (fd < 0) fd = memfd_create("json", 0);
    if (ftruncate(fd, 0) != 0 || pwrite(fd, data, size, 0) != (ssize_t)size) abort();
    struct input input = {fd, 0, (int64_t)size, "fuzz"};
    struct arena arena = {0};
    struct json_value *value = NULL;
    enum status tree = json_read_at(&input, 0, (int64_t)size, &arena, &value);
    enum status small = skip_over(&input, 7);
    enum status large = skip_over(&input, 4096);
    if (small != large) abort();
    if (tree == STATUS_OK && small != STATUS_OK) abort();
    if (tree == STATUS_OK && !value) abort();
    arena_fini(&arena);
    return 0;
}
