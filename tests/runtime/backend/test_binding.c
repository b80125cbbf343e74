/* Lists of processors, the ones near a PCI device, and the ranks' parts of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/backend/cuda/binding.h"

static void check_list(const char *text, const char *expected)
{
    cpu_set_t set;
    char again[64];
    assert_true(cpu_list_parse(text, &set));
    cpu_list_format(&set, again, sizeof again);
    assert_string_equal(again, expected);
}

static void test_lists(void **state)
{
    (void)state;
    cpu_set_t set;
    check_list("0-3,8,10-11\n", "0-3,8,10-11");
    check_list("5", "5");
    check_list("1,2,3,7", "1-3,7");
    const char *const bad[] = {"", "\n", "a", "3-1", "1-", "1;2", "0-99999"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(cpu_list_parse(bad[i], &set));
    }
    char small[6];
    assert_true(cpu_list_parse("0,2,4,6,8", &set));
    cpu_list_format(&set, small, sizeof small); /* as much as fits */
    assert_string_equal(small, "0,2,4");
}

/* ---- a made-up /sys ---- */

static char sysfs[256];

static void write_file(const char *folder, const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "mkdir -p '%s/%s'", sysfs, folder);
    assert_int_equal(system(path), 0);
    snprintf(path, sizeof path, "%s/%s/%s", sysfs, folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static int make_sysfs(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR");
    snprintf(sysfs, sizeof sysfs, "%s/weft-sysfs-XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(sysfs)) return -1;
    write_file("bus/pci/devices/0000:9b:00.0", "local_cpulist", "2-5,10-13\n");
    write_file("bus/pci/devices/0000:17:00.0", "local_cpulist", "\n");
    /* Two hardware threads a core: n and n + 8. */
    for (int cpu = 0; cpu < 16; cpu++) {
        char folder[128];
        char text[32];
        snprintf(folder, sizeof folder, "devices/system/cpu/cpu%d/topology", cpu);
        snprintf(text, sizeof text, "%d,%d\n", cpu % 8, cpu % 8 + 8);
        write_file(folder, "thread_siblings_list", text);
    }
    return 0;
}

static int remove_sysfs(void **state)
{
    (void)state;
    char command[512];
    snprintf(command, sizeof command, "rm -r '%s'", sysfs);
    return system(command);
}

static void check_share(const cpu_set_t *set, int index, int count, const char *expected)
{
    cpu_set_t share;
    char text[64];
    assert_true(cpu_list_share(sysfs, set, index, count, &share));
    cpu_list_format(&share, text, sizeof text);
    assert_string_equal(text, expected);
}

static void test_nearest(void **state)
{
    (void)state;
    cpu_set_t set;
    cpu_set_t share;
    assert_false(cpu_list_nearest(sysfs, "0000:00:00.0", &set));
    assert_false(cpu_list_nearest(sysfs, "0000:17:00.0", &set)); /* it knows of none */
    assert_true(cpu_list_nearest(sysfs, "0000:9b:00.0", &set));
    check_share(&set, 0, 1, "2-5,10-13");
    /* Threads of a core stay together. */
    check_share(&set, 0, 2, "2-3,10-11");
    check_share(&set, 1, 2, "4-5,12-13");
    check_share(&set, 1, 4, "3,11");
    check_share(&set, 0, 3, "2,10");
    check_share(&set, 2, 3, "5,12-13");
    assert_false(cpu_list_share(sysfs, &set, 0, 9, &share));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lists),
        cmocka_unit_test_setup_teardown(test_nearest, make_sysfs, remove_sysfs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
