/*
 * Which vector instructions this process uses. Chosen once, at the first call, from what the
 * processor and the operating system offer; the environment variable
 * WEFT_ISA=scalar|avx2|avx512|avx512bf16|amx lowers it. Levels are ordered: each includes the ones
 * before it. On processors that are not x86 it is CPU_ISA_SCALAR (the same C code, for the
 * compiler's own target).
 */
#ifndef WEFT_RUNTIME_BACKEND_CPU_ISA_H
#define WEFT_RUNTIME_BACKEND_CPU_ISA_H

enum cpu_isa {
    CPU_ISA_SCALAR,
    CPU_ISA_AVX2,       /* AVX2, FMA, F16C */
    CPU_ISA_AVX512,     /* AVX-512 F, BW, DQ, VL */
    CPU_ISA_AVX512BF16, /* and AVX512_BF16 */
    CPU_ISA_AMX,        /* and AMX-TILE, AMX-BF16, with the kernel's permission to use tiles */
    CPU_ISA_COUNT
};

/* Thread-safe. A WEFT_ISA above what the machine has, or unknown, is reported once and ignored. */
enum cpu_isa cpu_isa(void);

/* "scalar", "avx2", ... */
const char *cpu_isa_name(enum cpu_isa isa);

#endif
