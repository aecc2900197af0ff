// SPDX-License-Identifier: GPL-2.0
/*
 * drcbind [--hold] CPU: bind to a vCPU as its owner and say what came of it;
 * then leave, or stay until killed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <tdx_drcache_read.h>

int main(int argc, char **argv)
{
	int hold = argc == 3 && !strcmp(argv[1], "--hold");
	struct tdx_drcache_reader r;
	int err;

	if (argc != 2 + hold)
		return 2;
	err = tdx_drcache_open(&r, atoi(argv[1 + hold]), 0, NULL, 0);
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
