/*
 * Which GPU and which cores a rank takes: the GPU of its number on the host (the only one, where
 * the launcher shows each rank its own), and its part of the cores nearest to that GPU.
 *
 * Ranks tell each other the UUIDs of their GPUs, because numbers mean little: CUDA_VISIBLE_DEVICES
 * and containers renumber. Cores are those of the PCI device in sysfs; ranks that are near to the
 * same cores divide them, hardware threads of a core staying together.
 */
#ifndef WEFT_RUNTIME_BACKEND_CUDA_BINDING_H
#define WEFT_RUNTIME_BACKEND_CUDA_BINDING_H

#include <sched.h>
#include <stdbool.h>

#include "runtime/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

struct comm;

/*
 * Gives this rank its GPU, and with `cores` binds the calling thread (and those it starts) to cores
 * near it, unless the launcher bound the rank to some already. Does nothing once a GPU is in use,
 * but with several ranks is still a check that no two have the same. Collective; `comm` may be NULL
 * for one rank. Errors, on all ranks together: those of cuda_device_use, STATUS_INVALID for fewer
 * GPUs than ranks on a host and for two ranks on one GPU.
 */
enum status cuda_bind(struct comm *comm, bool cores);

/* What was done, for a log: "GPU 3 NVIDIA H200 (0000:9b:00.0), cores 24-31 nearest to it". */
const char *cuda_binding_text(void);

/* ---- parts, for tests and for weft doctor ---- */

/* Reads and writes lists like "0-3,8,10-11". False when `text` is no such list, or is empty. */
bool cpu_list_parse(const char *text, cpu_set_t *set);
void cpu_list_format(const cpu_set_t *set, char *text, size_t size);

/* The cores nearest to the PCI device `bus`, as `sysfs` ("/sys") knows them. */
bool cpu_list_nearest(const char *sysfs, const char *bus, cpu_set_t *set);

/* The `index`-th of `count` parts of a set, as equal as they can be; false when there are fewer
 * processors than parts. `sysfs` tells which of them are hardware threads of one core. */
bool cpu_list_share(const char *sysfs, const cpu_set_t *set, int index, int count,
                    cpu_set_t *share);

#ifdef __cplusplus
}
#endif
#endif
