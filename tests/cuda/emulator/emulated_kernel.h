/* The emulated side of runtime/backend/cuda/kernel.cuh: what is one PTX instruction there. */
#ifndef WEFT_TESTS_CUDA_EMULATOR_EMULATED_KERNEL_H
#define WEFT_TESTS_CUDA_EMULATOR_EMULATED_KERNEL_H

#include <stdint.h>

/* An asynchronous copy on its way: `filled` bytes, then zeros up to `bytes`. */
struct emulated_copy {
    void *to;
    const void *from;
    unsigned bytes, filled;
    int group;
};
void emulated_copy_issue(void *to, const void *from, unsigned bytes, unsigned filled);
void emulated_copy_commit(void);
void emulated_copy_wait(int pending);

/* mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 */
void emulated_mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2], const float c[4]);
/* mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 */
void emulated_mma_tf32(float d[4], const uint32_t a[4], const uint32_t b[2], const float c[4]);

/* ldmatrix.sync.aligned.m8n8.x{1,2,4}[.trans].shared.b16 */
void emulated_ldmatrix(uint32_t *d, int count, bool transposed, const void *row);

/* A 16-byte access must be aligned. */
void emulated_check_aligned(const void *address, unsigned bytes);

#endif
