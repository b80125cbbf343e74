/* weft version: what this binary is and what it runs on. */
#include <stdio.h>

#include "launch/build.h"
#include "launch/command.h"

#ifdef WEFT_CUDA
#include "runtime/backend/cuda/device.h"
#endif

#ifdef WEFT_CUDA
static void print_cuda(void)
{
    struct cuda_device devices[16];
    int count = 0;
    if (cuda_device_list(devices, 16, &count) != STATUS_OK) {
        printf("CUDA: %s\n", status_message());
        return;
    }
    for (int i = 0; i < count; i++) {
        printf("CUDA: GPU %d is %s, compute capability %d.%d, %.1f of %.1f GiB free\n", i,
               devices[i].name, devices[i].major, devices[i].minor,
               (double)devices[i].free_bytes / (1 << 30),
               (double)devices[i].total_bytes / (1 << 30));
    }
}
#else
static void print_cuda(void)
{
    printf("CUDA: not built in (no nvcc was found)\n");
}
#endif

static int run(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    printf("%s\n", build_text());
    print_cuda();
    return 0;
}

const struct command command_version = {
    .name = "version",
    .summary = "print the version, the compiler, the instruction set in use and the GPUs",
    .usage = "usage: weft version",
    .run = run,
};
