// SPDX-License-Identifier: GPL-2.0
/*
 * verdict N: end QEMU, which exits with status 2 * N + 1. Its isa-debug-exit
 * device is at port 0xf4; stock kernels have no /dev/port to write it by.
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
