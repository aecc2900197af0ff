// SPDX-License-Identifier: MIT
/*
 * observe CPU N: print N snapshots of the vCPU on CPU while its VMM runs: DR6, and the
 * addresses of the breakpoints that it reports. It looks on only, and may miss snapshots.
 *
 * Needs root, and the module tdx_drcache. To compile it:
 *
 *	cc -O2 -Wall -o observe $(pkg-config --cflags tdx-drcache) observe.c
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <tdx_drcache_read.h>

static void print(const struct tdx_drcache_slot *s)
{
	printf("tsc %" PRIu64 ": exit reason %u, DR6 %#" PRIx64, (uint64_t)s->tsc,
	       (unsigned int)s->exit_rax & 0xffff, (uint64_t)s->dr6);
	/* L1's own breakpoints: an address or a bit may be L1's. */
	if (s->flags & TDX_DRCACHE_L1_HWBP)
		printf(", L1 has breakpoints");
	for (int i = 0; i < 4; i++)
		if (s->dr6 & (1u << i))
			printf(", breakpoint %d at %#" PRIx64, i, (uint64_t)s->db[i]);
	putchar('\n');
}

int main(int argc, char **argv)
{
	struct tdx_drcache_reader r;
	struct tdx_drcache_slot s;
	uint64_t last = 0;
	int err, n;

	if (argc != 3) {
		fprintf(stderr, "usage: observe CPU N\n");
		return 2;
	}
	n = atoi(argv[2]);
	err = tdx_drcache_open(&r, atoi(argv[1]), 0, NULL, TDX_DRCACHE_BIND_OBSERVE);
	if (err) {
		fprintf(stderr, "%s: %s\n", TDX_DRCACHE_DEV, strerror(-err));
		return EXIT_FAILURE;
	}
	while (n > 0) {
		/* Only a snapshot later than the last one. */
		if (tdx_drcache_observe(&r, last + 1, &s) == TDX_DRCACHE_HIT) {
			print(&s);
			last = s.tsc;
			n--;
		} else {
			usleep(1000);
		}
	}
	tdx_drcache_close(&r);
	return EXIT_SUCCESS;
}
