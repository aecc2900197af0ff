// SPDX-License-Identifier: GPL-2.0
/*
 * drcbind CPU: bind to a vCPU as its owner, say what came of it, and leave.
 */
#include <stdio.h>
#include <stdlib.h>
#include <tdx_drcache_read.h>

int main(int argc, char **argv)
{
	struct tdx_drcache_reader r;
	int err;

	if (argc != 2)
		return 2;
	err = tdx_drcache_open(&r, atoi(argv[1]), 0, NULL, 0);
	if (err) {
		printf("%s\n", strerrorname_np(-err));
		return EXIT_FAILURE;
	}
	puts("bound");
	tdx_drcache_close(&r);
	return EXIT_SUCCESS;
}
