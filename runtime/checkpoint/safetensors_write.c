#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/file_io.h"
#include "runtime/base/strbuf.h"
#include "runtime/checkpoint/safetensors.h"

static int64_t element_size(const struct safetensors_tensor *tensor)
{
    return tensor->dtype == SAFETENSORS_I64 ? 8 : 4;
}

static int64_t tensor_bytes(const struct safetensors_tensor *tensor)
{
    return shape_count(&tensor->shape) * element_size(tensor);
}

static void describe(struct strbuf *header, const struct safetensors_tensor *tensor, int64_t begin)
{
    strbuf_append_json(header, tensor->name, strlen(tensor->name));
    strbuf_printf(header, ":{\"dtype\":\"%s\",\"shape\":[",
                  tensor->dtype == SAFETENSORS_I64 ? "I64" : "F32");
    for (int d = 0; d < tensor->shape.rank; d++) {
        strbuf_printf(header, "%s%" PRId64, d ? "," : "", tensor->shape.dim[d]);
    }
    strbuf_printf(header, "],\"data_offsets\":[%" PRId64 ",%" PRId64 "]}", begin,
                  begin + tensor_bytes(tensor));
}

/* The length and the header, padded so that the data begin at a multiple of 8. `order` holds the
 * tensors as they will lie. */
static enum status make_head(const char *path, const struct safetensors_tensor *const *order,
                             int64_t count, struct strbuf *head)
{
    uint8_t length[8] = {0};
    int64_t begin = 0;
    strbuf_append_bytes(head, length, sizeof length);
    strbuf_append(head, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (int64_t i = 0; i < count; i++) {
        strbuf_append(head, ",");
        describe(head, order[i], begin);
        begin += tensor_bytes(order[i]);
    }
    strbuf_append(head, "}");
    while (head->length % 8 != 0 && !head->failed) {
        strbuf_append(head, " ");
    }
    CHECK(!head->failed, STATUS_NO_MEMORY, "%s: no memory for its header", path);
    uint64_t bytes = head->length - sizeof length;
    for (size_t i = 0; i < sizeof length; i++) {
        length[i] = (uint8_t)(bytes >> 8 * i);
    }
    memcpy(head->text, length, sizeof length);
    return STATUS_OK;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp((*(const struct safetensors_tensor *const *)a)->name,
                  (*(const struct safetensors_tensor *const *)b)->name);
}

static enum status order_tensors(const char *path, const struct safetensors_tensor *tensors,
                                 int64_t count, const struct safetensors_tensor **order)
{
    for (int64_t i = 0; i < count; i++) {
        order[i] = &tensors[i];
    }
    qsort(order, (size_t)count, sizeof(const void *), compare_names);
    for (int64_t i = 1; i < count; i++) {
        CHECK(strcmp(order[i - 1]->name, order[i]->name) != 0, STATUS_INVALID,
              "%s: '%s' would be written twice", path, order[i]->name);
    }
    int64_t next = 0;
    for (int64_t size = 8; size >= 4; size -= 4) {
        for (int64_t i = 0; i < count; i++) {
            if (element_size(&tensors[i]) == size) order[next++] = &tensors[i];
        }
    }
    return STATUS_OK;
}

static enum status write_contents(int file, const char *path, const struct strbuf *head,
                                  const struct safetensors_tensor *const *order, int64_t count)
{
    int64_t at = (int64_t)head->length;
    TRY(file_write_at(file, path, head->text, at, 0));
    for (int64_t i = 0; i < count; i++) {
        TRY(file_write_at(file, path, order[i]->data, tensor_bytes(order[i]), at));
        at += tensor_bytes(order[i]);
    }
    return file_sync(file, path);
}

enum status safetensors_write(const char *path, const struct safetensors_tensor *tensors,
                              int64_t count)
{
    char temporary[PATH_MAX];
    int length = snprintf(temporary, sizeof temporary, "%s.tmp", path);
    CHECK(length < (int)sizeof temporary, STATUS_INVALID, "%s: the path is too long", path);
    struct strbuf head = {0};
    const struct safetensors_tensor **order = calloc((size_t)count + 1, sizeof(const void *));
    CHECK(order, STATUS_NO_MEMORY, "%s: no memory for its header", path);
    int file = -1;
    enum status status;
    TRY_GOTO(status, order_tensors(path, tensors, count, order), done);
    TRY_GOTO(status, make_head(path, order, count, &head), done);
    file = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    CHECK_GOTO(file >= 0, status, done, STATUS_IO, "%s: cannot create: %s", temporary,
               strerror(errno));
    status = write_contents(file, temporary, &head, order, count);
    close(file);
    if (status == STATUS_OK) status = file_rename(temporary, path);
    if (status != STATUS_OK) (void)unlink(temporary);
done:
    strbuf_fini(&head);
    free(order);
    return status;
}
