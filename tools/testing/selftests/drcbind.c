// SPDX-License-Identifier: GPL-2.0
/*
 * drcbind [OPTION]... CPU: bind to a vCPU as its owner, print the result, and
 * leave.
 *
 *   --hold      stay until killed
 *   --exclusive reserve the CPU's breakpoint registers
 *   --observe   bind as an observer instead
 *   --run-page  pass an ordinary page as the run page
 *   --exit RAX  the same, with an exit with RAX in the run page
 *   --syscalls  when bound, print the cost of a system call in ticks
 *   --late      the same, for an ioctl that looks like one that enters the L2
 *   --wait      observe instead, until an exit of the owner is captured
 */
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <mshv/mshv_vtl.h>
#include <sys/syscall.h>
#include <tdx_drcache_read.h>

/*
 * Measure getppid(), or the ioctl on drcache_mock_host.ko's device, in the quickest of ten
 * batches of a hundred.
 */
static void print_syscalls(int fd)
{
	uint64_t ticks, start, least = UINT64_MAX;
	int i, j;

	for (i = 0; i < 10; i++) {
		start = tdx_drcache_tsc();
		for (j = 0; j < 100; j++) {
			if (fd >= 0)
				ioctl(fd, MSHV_VTL_RETURN_TO_LOWER_VTL);
			else
				syscall(SYS_getppid);
		}
		ticks = tdx_drcache_tsc() - start;
		if (ticks < least)
			least = ticks;
	}
	printf("%llu.%02llu\n", (unsigned long long)least / 100,
	       (unsigned long long)least % 100);
}

/* Wait for at most ten seconds. */
static int wait_for_owner(int cpu)
{
	struct tdx_drcache_reader r;
	int i, err = tdx_drcache_open(&r, cpu, 0, NULL, TDX_DRCACHE_BIND_OBSERVE);

	for (i = 0; !err && i < 1000; i++) {
		struct tdx_drcache_stats s = { .size = sizeof(s) };

		err = ioctl(r.fd, TDX_DRCACHE_GET_STATS, &s);
		if (!err && s.published) {
			tdx_drcache_close(&r);
			return EXIT_SUCCESS;
		}
		usleep(10000);
	}
	puts("no owner");
	return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "hold", no_argument, NULL, 'h' },
		{ "exclusive", no_argument, NULL, 'x' },
		{ "observe", no_argument, NULL, 'o' },
		{ "run-page", no_argument, NULL, 'r' },
		{ "exit", required_argument, NULL, 'e' },
		{ "syscalls", no_argument, NULL, 's' },
		{ "late", no_argument, NULL, 'l' },
		{ "wait", no_argument, NULL, 'w' },
		{ 0 },
	};
	struct tdx_drcache_reader r;
	struct mshv_vtl_run *run_page = NULL;
	bool hold = false, wait = false, syscalls = false;
	int err, opt, late = -1;
	uint32_t flags = 0;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (opt) {
		case 'h':
			hold = true;
			break;
		case 'x':
			flags = TDX_DRCACHE_BIND_EXCLUSIVE;
			break;
		case 'o':
			flags = TDX_DRCACHE_BIND_OBSERVE;
			break;
		case 's':
			syscalls = true;
			break;
		case 'l':
			late = open("/dev/drcache_mock_host", O_RDONLY);
			syscalls = true;
			break;
		case 'r':
		case 'e':
			run_page = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
					MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			if (opt == 'e') {
				run_page->exit_info.rax = strtoull(optarg, NULL, 0);
				run_page->entry_rcx = 1ull << TDX_ENTRY_VM_SHIFT;
			}
			break;
		case 'w':
			wait = true;
			break;
		default:
			return 2;
		}
	}
	if (optind != argc - 1)
		return 2;
	if (wait)
		return wait_for_owner(atoi(argv[optind]));
	err = tdx_drcache_open(&r, atoi(argv[optind]), 0, run_page, flags);
	if (err) {
		printf("%s\n", strerrorname_np(-err));
		return EXIT_FAILURE;
	}
	puts("bound");
	fflush(stdout);
	if (syscalls)
		print_syscalls(late);
	if (hold)
		pause();
	tdx_drcache_close(&r);
	return EXIT_SUCCESS;
}
