#include "runtime/backend/cpu/isa.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/base/log.h"

static const char *const names[CPU_ISA_COUNT] = {"scalar", "avx2", "avx512", "avx512bf16", "amx"};
static pthread_once_t once = PTHREAD_ONCE_INIT;
static enum cpu_isa chosen = CPU_ISA_SCALAR;

#if defined(__x86_64__)
#include <cpuid.h>

/* Linux hands out the AMX tile registers per process, on request. */
static int amx_is_permitted(void)
{
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

static enum cpu_isa detect(void)
{
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return CPU_ISA_SCALAR;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl")) {
        return CPU_ISA_AVX2;
    }
    unsigned a = 0;
    unsigned b = 0;
    unsigned c = 0;
    unsigned d = 0;
    /* Leaf 7: subleaf 1 EAX bit 5 is AVX512_BF16; subleaf 0 EDX bits 22 and 24 are AMX-BF16,
     * AMX-TILE. */
    if (!__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a & (1u << 5))) return CPU_ISA_AVX512;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return CPU_ISA_AVX512BF16;
    int has_amx = (d & (1u << 22)) && (d & (1u << 24));
    return has_amx && amx_is_permitted() ? CPU_ISA_AMX : CPU_ISA_AVX512BF16;
}
#else
static enum cpu_isa detect(void)
{
    return CPU_ISA_SCALAR;
}
#endif

static void choose(void)
{
    chosen = detect();
    const char *wanted = getenv("WEFT_ISA");
    if (!wanted || !*wanted) return;
    for (int i = 0; i < CPU_ISA_COUNT; i++) {
        if (strcmp(wanted, names[i]) != 0) continue;
        if (i > (int)chosen) {
            log_warning("WEFT_ISA=%s: this machine has only %s; using that", wanted, names[chosen]);
        } else {
            chosen = (enum cpu_isa)i;
        }
        return;
    }
    log_warning("WEFT_ISA=%s: unknown; use scalar, avx2, avx512, avx512bf16 or amx", wanted);
}

enum cpu_isa cpu_isa(void)
{
    pthread_once(&once, choose);
    return chosen;
}

const char *cpu_isa_name(enum cpu_isa isa)
{
    return (unsigned)isa < CPU_ISA_COUNT ? names[isa] : "unknown";
}
