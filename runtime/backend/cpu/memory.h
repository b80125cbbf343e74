/* Large zeroed memory, 64-byte aligned, on huge pages where the system offers them. */
#ifndef WEFT_RUNTIME_BACKEND_CPU_MEMORY_H
#define WEFT_RUNTIME_BACKEND_CPU_MEMORY_H

#include <stddef.h>

#include "runtime/base/status.h"

/* Allocates `size` bytes; NULL in *memory for size 0. Errors: STATUS_NO_MEMORY, naming `what` and
 * the size. */
enum status memory_map(void **memory, size_t size, const char *what);
void memory_unmap(void **memory, size_t size);

#endif
