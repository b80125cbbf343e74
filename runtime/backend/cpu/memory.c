#include "runtime/backend/cpu/memory.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

enum status memory_map(void **memory, size_t size, const char *what)
{
    *memory = NULL;
    if (size == 0) return STATUS_OK;
    void *mapped = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(mapped != MAP_FAILED, STATUS_NO_MEMORY, "cannot allocate %.1f MiB for %s: %s",
          (double)size / (1 << 20), what, strerror(errno));
    /* Advice: without huge pages everything works, a little slower. */
    madvise(mapped, size, MADV_HUGEPAGE);
    *memory = mapped;
    return STATUS_OK;
}

void memory_unmap(void **memory, size_t size)
{
    if (*memory) munmap(*memory, size);
    *memory = NULL;
}
