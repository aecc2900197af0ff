// SPDX-License-Identifier: GPL-2.0
/*
 * drcbind [OPTION]... CPU: bind to a vCPU as its owner, say what came of it, and
 * leave.
 *
 *   --hold      stay until killed
 *   --run-page  give a run page, which is none
 *   --wait      observe instead, until the owner has had an exit captured
 *   --info      bind nothing; say what GET_INFO does
 */
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <tdx_drcache_read.h>

static int print_info(void)
{
	static const char *const hooks[] = { "none", "callout", "fprobe", "return" };
	static const char *const hosts[] = { "none", "mshv_vtl", "emulated" };
	struct tdx_drcache_info info = { .size = sizeof(info) };
	int fd = open(TDX_DRCACHE_DEV, O_RDONLY);

	if (fd < 0 || ioctl(fd, TDX_DRCACHE_GET_INFO, &info)) {
		perror("drcbind");
		return EXIT_FAILURE;
	}
	printf("hook %s, host %s\n", hooks[info.hook], hosts[info.host]);
	return EXIT_SUCCESS;
}

/* For at most ten seconds. */
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
		{ "run-page", no_argument, NULL, 'r' },
		{ "wait", no_argument, NULL, 'w' },
		{ "info", no_argument, NULL, 'i' },
		{ 0 },
	};
	struct tdx_drcache_reader r;
	void *run_page = NULL;
	bool hold = false, wait = false;
	int err, opt;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (opt) {
		case 'h':
			hold = true;
			break;
		case 'r':
			run_page = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
					MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			break;
		case 'w':
			wait = true;
			break;
		case 'i':
			return print_info();
		default:
			return 2;
		}
	}
	if (optind != argc - 1)
		return 2;
	if (wait)
		return wait_for_owner(atoi(argv[optind]));
	err = tdx_drcache_open(&r, atoi(argv[optind]), 0, run_page, 0);
	if (err) {
		printf("%s\n", strerrorname_np(-err));
		return EXIT_FAILURE;
	}
	puts("bound");
	fflush(stdout);
	if (hold)
		pause();
	tdx_drcache_close(&r);
	return EXIT_SUCCESS;
}
