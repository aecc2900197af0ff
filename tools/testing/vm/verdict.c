// SPDX-License-Identifier: GPL-2.0
/*
 * verdict N: end QEMU with exit status 2 * N + 1, through its isa-debug-exit device
 * at port 0xf4. Stock kernels have no /dev/port to write to it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/io.h>

int main(int argc, char **argv)
{
	if (argc != 2 || ioperm(0xf4, 1, 1)) {
		perror("verdict");
		return EXIT_FAILURE;
	}
	outb(atoi(argv[1]), 0xf4);
	return EXIT_FAILURE;
}
