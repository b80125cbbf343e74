/* CSV: records cover the file in order, and each splits into fields or fails with a reason. The
 * first byte chooses the dialect.
 * runs=90000
 */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "data/import/csv_table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1;
    if (size < 1) return 0;
    if (fd < 0) fd = memfd_create("csv", 0);
    struct csv_dialect dialect = {data[0] & 1 ? ',' : '\t', (data[0] & 2) != 0};
    data++;
    size--;
    if (ftruncate(fd, 0) != 0 || pwrite(fd, data, size, 0) != (ssize_t)size) abort();
    struct input input = {fd, 0, (int64_t)size, "fuzz"};
    struct int_list offsets = {0};
    struct arena arena = {0};
    if (csv_index(&input, dialect, &offsets) == STATUS_OK) {
        if (offsets.count < 1 || offsets.value[offsets.count - 1] != (int64_t)size) abort();
        for (int64_t i = 0; i + 1 < offsets.count; i++) {
            int64_t begin = offsets.value[i];
            int64_t length = offsets.value[i + 1] - begin;
            struct csv_field *fields = NULL;
            int num_fields = 0;
            if (length <= 0) abort();
            if (csv_split((const char *)data + begin, length, dialect, &arena, &fields,
                          &num_fields) != STATUS_OK) {
                continue;
            }
            if (num_fields < 1) abort();
            for (int j = 0; j < num_fields; j++) {
                if (fields[j].length < 0 || fields[j].length > length) abort();
                if (fields[j].text[fields[j].length] != '\0') abort();
            }
        }
    }
    arena_fini(&arena);
    free(offsets.value);
    return 0;
}
